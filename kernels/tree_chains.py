"""Tree attention on a CPU: rectangles of queries and keys, merged by their log-sum-exp.

A chain (the nodes up to the next fork) looks at itself causally, and all that is below it looks at
all of it. In depth-first order both are slices: no key is copied, nothing is padded, and nothing is
masked but at the end of a sliding window. With o_i and L_i the output and the log-sum-exp of a
rectangle,

    L = log sum_i exp(L_i),   o = sum_i exp(L_i - L) o_i

and PyTorch's own backward pass, given o and L in the place of o_i and L_i, gives a rectangle's
share of the gradients (as in ring attention: Liu et al. 2023, arXiv 2310.01889).

A sequence adds at most two chains to a tree, so it costs at most four calls a layer. A rectangle
with a mask in the place of many short chains was tried and is no faster (tries of 200 chains).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch

from .accumulate import accumulator


class Piece(NamedTuple):
    """Some queries and the keys that they look at; slices of nodes."""

    queries: slice
    keys: slice
    is_causal: bool
    mask: torch.Tensor | None
    """`[queries, keys]` bool: where they look, if it is not everywhere."""


def cut(end: torch.Tensor, depth: torch.Tensor, window: int | None) -> list[Piece]:
    """The pieces of a tree: first those of every chain alone, then those of what is below it.

    Args:
        end: `[N]` one past the last node of each subtree, in depth-first order.
        depth: `[N]` number of ancestors.
        window: Ancestors at least so far above are not seen; None sees all.
    """
    chains = _chains(end, window)
    own = [_piece(chain, chain, depth, window) for chain in chains]
    above: list[Piece] = []
    for number, chain in enumerate(chains, start=1):
        below = slice(chain.stop, int(end[chain.start]))
        if below.start == below.stop:
            continue
        if window is None or int(depth[below].max() - depth[chain.start]) < window:
            above.append(_piece(below, chain, depth, window))
            continue
        reach = int(depth[chain.stop - 1]) + window
        for other in chains[number:]:
            if other.start < below.stop and depth[other.start] < reach:
                above.append(_piece(other, chain, depth, window))
    return own + above


def _chains(end: torch.Tensor, window: int | None) -> list[slice]:
    """Nodes up to the next fork; none longer than the window, whose end then is in few of them."""
    count = len(end)
    after = torch.arange(1, count)
    is_only_child = (end[:-1] == end[1:]) & (end[:-1] > after)
    starts = [0, *after[~is_only_child].tolist(), count] if count else [0]
    longest = window or max(1, count)
    return [
        slice(at, min(at + longest, stop))
        for start, stop in pairwise(starts)
        for at in range(start, stop, longest)
    ]


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pieces: list[Piece],
    scale: float | None,
) -> torch.Tensor:
    """Attention `[1, heads, N, D]` by pieces; the shapes of `tree_attention`.

    16-bit inputs are computed in float32: PyTorch's own backward pass for CPUs takes 2.6 times as
    long in bfloat16 (Zen 4), and sums are not rounded between the pieces.
    """
    apply: Any = _Attend.apply
    dtype = accumulator(query)
    out: torch.Tensor = apply(query.to(dtype), key.to(dtype), value.to(dtype), pieces, scale)
    return out.to(query.dtype)


def _piece(queries: slice, keys: slice, depth: torch.Tensor, window: int | None) -> Piece:
    """A rectangle, with a mask only where the window ends in it."""
    rows, columns = depth[queries, None], depth[None, keys]
    is_own = queries == keys
    if window is None or int(rows.max() - columns.min()) < window:
        return Piece(queries, keys, is_own, None)
    mask = rows - columns < window
    return Piece(queries, keys, False, mask & (columns <= rows))


class _Attend(torch.autograd.Function):
    """Works on `[kv_heads, heads of one, N, D]`; keys and values are repeated by a stride of 0."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        pieces: list[Piece],
        scale: float | None,
    ) -> torch.Tensor:
        q, k, v = _grouped(query, key, value)
        # In memory `[N, heads, D]`: what transformers reshapes it to.
        out = q.new_empty(q.shape[2], *q.shape[:2], q.shape[3]).permute(1, 2, 0, 3)
        total = q.new_empty(q.shape[:3])
        for piece in pieces:
            part, logsumexp = _forward(*_part(piece, q, k, v), piece, scale)
            before, merged = total[:, :, piece.queries], out[:, :, piece.queries]
            if piece.queries == piece.keys:
                before.copy_(logsumexp)
                merged.copy_(part)
                continue
            after = torch.logaddexp(before, logsumexp)
            merged.mul_((before - after).exp()[..., None])
            merged.addcmul_(part, (logsumexp - after).exp()[..., None])
            before.copy_(after)
        ctx.save_for_backward(query, key, value, out, total)
        ctx.pieces, ctx.scale = pieces, scale
        return out.flatten(0, 1)[None]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, total = ctx.saved_tensors
        q, k, v = _grouped(query, key, value)
        upstream = grads[0][0].unflatten(0, q.shape[:2])
        grad_q, grad_k, grad_v = (torch.zeros_like(t[0]) for t in (query, key, value))
        by_group = grad_q.unflatten(0, q.shape[:2])
        for piece in ctx.pieces:
            rows = piece.queries
            given = (upstream[:, :, rows], *_part(piece, q, k, v), out[:, :, rows])
            dq, dk, dv = _backward(*given, total[:, :, rows], piece, ctx.scale)
            by_group[:, :, rows] += dq
            grad_k[:, piece.keys] += dk.sum(dim=1)
            grad_v[:, piece.keys] += dv.sum(dim=1)
        return grad_q[None], grad_k[None], grad_v[None], None, None


def _grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q = query[0].unflatten(0, (key.shape[1], -1))
    k, v = (t[0][:, None].expand(-1, q.shape[1], -1, -1) for t in (key, value))
    return q, k, v


def _part(
    piece: Piece, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return q[:, :, piece.queries], k[:, :, piece.keys], v[:, :, piece.keys]


def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, piece: Piece, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mask = _scores_of(piece, q)
    part: tuple[torch.Tensor, torch.Tensor] = run(
        q, k, v, 0.0, piece.is_causal, attn_mask=mask, scale=scale
    )
    return part


def _backward(
    upstream: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    logsumexp: torch.Tensor,
    piece: Piece,
    scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    mask = _scores_of(piece, q)
    part: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = run(
        upstream, q, k, v, out, logsumexp, 0.0, piece.is_causal, attn_mask=mask, scale=scale
    )
    return part


def _scores_of(piece: Piece, q: torch.Tensor) -> torch.Tensor | None:
    """The mask as scores to add: finite, so that queries without keys get 0 after merging."""
    if piece.mask is None:
        return None
    scores = torch.zeros(piece.mask.shape, dtype=q.dtype)
    return scores.masked_fill_(~piece.mask, torch.finfo(q.dtype).min / 2)
