"""Log-probs and entropies of given tokens from hidden states and a frozen head, in one pass.

    u = h W^T + b,   z = softcap(u),   d_v = (z_v - z_t) / T,   S = sum_{v != t} exp(d_v)
    logp     = -log1p(S)
    entropy  = log1p(S) - sum_v exp(d_v) d_v / (1 + S)
    dlogp/dh = (S c_t W_t - sum_{v != t} exp(d_v) c_v W_v) / (T (1 + S)),   c = dz/du

Measuring every logit from the target's needs no maximum first, so the gradient's matrix product
runs in the forward pass (4 N H V FLOPs in all) and the backward pass of any loss scales rows. The
logits `[N, V]` are never held: the kernel keeps a chunk of exp(d), the reference one tile.

Limits: no gradient for the head (one that learns, or has LoRA, goes through `checkpointed`, which
computes its logits twice: 6 N H V), and none for the entropy, which is a metric.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .accumulate import accumulator, matmul
from .head import Head, LinearHead, checkpointed
from .jit import accelerated
from .logprob_triton import score_triton
from .scores import FrozenHead, Scores, finish, offset

MAX_AUTOGRAD_LOGITS = 2**24
"""Up to so many logits (64 MiB of float32) autograd on the CPU is left alone: nothing to save."""

REFERENCE_TILE = (512, 1024)
"""Rows and words that the reference holds at once: 2 MiB of float32, which a CPU's cache holds.
Four times as many are no faster."""


def token_logprobs(
    hidden: torch.Tensor,
    head: Head,
    targets: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score one target token for each hidden state.

    Args:
        hidden: `[N, H]`; only the rows that are to be scored.
        head: Maps `[n, H]` to logits `[n, V]`. A frozen `LinearHead` takes the one-pass op.
        targets: `[N]` token ids.
        temperature: Divides the logits; the temperature that the tokens were sampled at.

    Returns:
        Log-probs `[N]` (differentiable with respect to `hidden`), and entropies `[N]` in nats (a
        metric, without gradient); float32, for float64 hidden states float64.
    """
    if len(targets) == 0:
        empty = hidden.sum(dim=-1).to(accumulator(hidden))
        return empty, empty.detach()
    if not isinstance(head, LinearHead) or not _takes_one_pass(hidden, head):
        return checkpointed(hidden, head, targets, temperature, MAX_AUTOGRAD_LOGITS)
    frozen = FrozenHead(head.weight, head.bias, head.softcap, 1.0 / temperature)
    wants_gradient = torch.is_grad_enabled() and hidden.requires_grad
    apply: Any = _TokenLogprobs.apply
    logprobs, entropies = apply(hidden, frozen, targets, wants_gradient)
    return logprobs, entropies


def _takes_one_pass(hidden: torch.Tensor, head: LinearHead) -> bool:
    if not head.is_frozen:
        return False
    return hidden.is_cuda or len(hidden) * len(head.weight) > MAX_AUTOGRAD_LOGITS


class _TokenLogprobs(torch.autograd.Function):
    """The gradient is made with the log-probs; the backward pass scales its rows."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: FrozenHead,
        targets: torch.Tensor,
        wants_gradient: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        score = score_triton if accelerated(hidden, least=80) else score_reference
        scores = score(hidden, head, targets, wants_gradient)
        ctx.save_for_backward(scores.gradient)
        ctx.mark_non_differentiable(scores.entropies)
        return scores.logprobs, scores.entropies

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,), upstream = ctx.saved_tensors, grads[0]
        # Multiplied in float32 and rounded once, without a float32 copy of [N, H].
        rows = torch.empty_like(gradient)
        torch.mul(gradient, upstream[:, None], out=rows)
        return rows, None, None, None


class _Sums(NamedTuple):
    """Over all words but the target: exp(d - shift), times d, times c W; and the largest d."""

    total: torch.Tensor
    dot: torch.Tensor
    product: torch.Tensor
    largest: torch.Tensor


def score_reference(
    hidden: torch.Tensor, head: FrozenHead, targets: torch.Tensor, wants_gradient: bool
) -> Scores:
    """Plain PyTorch, any device and floating dtype; holds one tile of logits at a time."""
    logprobs = hidden.new_empty(len(hidden), dtype=accumulator(hidden))
    entropies = torch.empty_like(logprobs)
    gradient = torch.empty_like(hidden) if wants_gradient else None
    for start in range(0, len(hidden), REFERENCE_TILE[0]):
        rows = slice(start, start + REFERENCE_TILE[0])
        x, tokens = hidden[rows], targets[rows]
        w_t = head.weight[tokens].to(logprobs.dtype)
        u_t = (x * w_t).sum(dim=1)
        if head.bias is not None:
            u_t = u_t + head.bias[tokens]
        z_t, c_t = _activate(u_t, head.softcap)
        shift = torch.zeros_like(z_t)
        sums = _sum_tiles(x, head, (tokens, z_t, shift), wants_gradient)
        shift = offset(sums.largest, _held(x))
        if len(again := shift.nonzero()[:, 0]):
            part = (tokens[again], z_t[again], shift[again])
            redone = _sum_tiles(x[again], head, part, wants_gradient)
            for old, new in zip(sums, redone, strict=True):
                old[again] = new
        logprobs[rows], entropies[rows], everything = finish(sums.total, sums.dot, shift)
        if gradient is not None:
            # w_t is no longer needed; its memory takes the result.
            w_t.mul_((sums.total * c_t)[:, None]).sub_(sums.product)
            gradient[rows] = w_t.mul_((head.scale / everything)[:, None])
    return Scores(logprobs, entropies, gradient)


def _sum_tiles(
    x: torch.Tensor,
    head: FrozenHead,
    target: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    wants_gradient: bool,
) -> _Sums:
    tokens, z_t, shift = target
    total, dot = torch.zeros_like(z_t), torch.zeros_like(z_t)
    largest = torch.full_like(z_t, -torch.inf)
    product = z_t.new_zeros(len(x), x.shape[1] if wants_gradient else 0)
    held = _held(x)
    x = x.to(held)
    for start in range(0, len(head.weight), REFERENCE_TILE[1]):
        w = head.weight[start : start + REFERENCE_TILE[1]].to(held)
        u = matmul(x, w.T)
        if head.bias is not None:
            u += head.bias[start : start + len(w)]
        d, c = _activate(u, head.softcap)
        d = d.sub_(z_t[:, None]).mul_(head.scale)
        here = ((tokens >= start) & (tokens < start + len(w))).nonzero()[:, 0]
        # Finite, so that exp(d) d is 0.
        d[here, tokens[here] - start] = -1e30
        largest = torch.maximum(largest, d.amax(dim=1))
        e = torch.sub(d, shift[:, None]).exp_()
        total += e.sum(dim=1)
        dot += d.mul_(e).sum(dim=1)
        if wants_gradient:
            e = e if head.softcap is None else e.mul_(c)
            product += matmul(e.to(held), w)
    return _Sums(total, dot, product, largest)


def _held(x: torch.Tensor) -> torch.dtype:
    """What matrices are multiplied in: their own dtype on CUDA, at least float32 on a CPU."""
    return x.dtype if x.is_cuda else accumulator(x)


def _activate(u: torch.Tensor, softcap: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Give z and dz/du; without a softcap u itself and ones (one number, broadcast)."""
    if softcap is None:
        return u, u.new_ones(())
    bounded = torch.tanh(u / softcap)
    return bounded * softcap, 1.0 - bounded.square()
