"""Attention in a forest of tokens: every token sees its ancestors and itself, nothing else.

Rollouts of one task share prefixes; as a tree, each shared token is computed once, and every branch
gets what it would get alone. Nodes are in depth-first order, so a subtree is a range, and a node is
an ancestor of another exactly if the other lies in its range:

    q sees k   if   k <= q < end[k]   (and depth[q] - depth[k] < window)

So the mask is two numbers a node instead of N^2 bits. On CUDA FlexAttention skips blocks of 128 x
128 without a pair; on a CPU the tree is cut into chains, and no mask is needed
(`tree_chains.py`). Rows that share nothing are a forest too, of trees without branches.

Limits: FlexAttention runs at about 0.6 of FlashAttention 3's speed on Hopper; two variable-length
calls merged by their log-sum-exp would suit a single shared prefix better, and are not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .tree_chains import Piece, attend, cut

BLOCK_SIZE = 128
"""Nodes of a block that FlexAttention skips or computes."""


class Tree:
    """A forest of N nodes in depth-first order; `tree_of` makes it."""

    def __init__(self, end: torch.Tensor, depth: torch.Tensor) -> None:
        self.end = end
        """`[N]` int64: one past the last node of the subtree."""
        self.depth = depth
        """`[N]` int64: number of ancestors; the position in every branch through the node."""
        self._cut: dict[int | None, Any] = {}

    def to(self, device: torch.device) -> Tree:
        """The same tree on a device."""
        return Tree(self.end.to(device), self.depth.to(device))

    def sees(
        self, query: torch.Tensor, key: torch.Tensor, window: int | None = None
    ) -> torch.Tensor:
        """Does the query node attend to the key node? Shapes broadcast."""
        seen = (key <= query) & (query < self.end[key])
        return seen if window is None else seen & (self.depth[query] - self.depth[key] < window)

    def pieces(self, window: int | None) -> list[Piece]:
        """How a CPU computes it; made once for all layers that have this window."""
        if window not in self._cut:
            self._cut[window] = cut(self.end, self.depth, window)
        pieces: list[Piece] = self._cut[window]
        return pieces

    def blocks(self, window: int | None) -> Any:
        """The mask for FlexAttention; made once for all layers that have this window."""
        if window not in self._cut:
            self._cut[window] = block_mask(self, window)
        return self._cut[window]


def tree_of(parents: Sequence[int] | NDArray[np.int64]) -> Tree:
    """The tree of parent pointers `[N]`, -1 for roots.

    Raises:
        ValueError: The nodes are not in depth-first order.
    """
    up = np.asarray(parents, dtype=np.int64)
    count = len(up)
    is_start = up != np.arange(count) - 1
    is_start[:1] = True
    end = np.full(count, count, dtype=np.int64)
    depth = np.empty(count, dtype=np.int64)
    path = np.empty(count, dtype=np.int64)  # the node at each depth of the branch that is open
    length = 0
    for start, stop in pairwise([*np.flatnonzero(is_start).tolist(), count]):
        parent = up[start]
        above = int(depth[parent]) + 1 if 0 <= parent < start else 0
        if parent != -1 and (above == 0 or above > length or path[above - 1] != parent):
            raise ValueError(
                f"node {start} follows node {parent}, which is no node of the branch before it; "
                "put nodes in depth-first order, parents first"
            )
        end[path[above:length]] = start
        length = above + stop - start
        depth[start:stop] = np.arange(above, length)
        path[above:length] = np.arange(start, stop)
    return Tree(torch.from_numpy(end), torch.from_numpy(depth))


def tree_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tree: Tree,
    *,
    scale: float | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Attention `[1, heads, N, D]` along the branches of a tree.

    Args:
        query: `[1, heads, N, D]`.
        key: `[1, kv_heads, N, D]`; heads are a multiple of kv_heads.
        value: Like `key`.
        tree: On the same device.
        scale: Of the scores; None is 1 / sqrt(D).
        window: Ancestors at least so far above are not seen; None sees all.
    """
    if not query.is_cuda:
        return attend(query, key, value, tree.pieces(window), scale)
    out: torch.Tensor = _flex()(
        query, key, value, block_mask=tree.blocks(window), scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return out


def dense_mask(tree: Tree, window: int | None = None) -> torch.Tensor:
    """`[1, 1, N, N]` bool: who sees whom; N^2 bytes."""
    nodes = torch.arange(len(tree.end), device=tree.end.device)
    return tree.sees(nodes[:, None], nodes[None, :], window)[None, None]


def block_mask(tree: Tree, window: int | None = None) -> Any:
    """The mask for FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return tree.sees(query, key, window)

    length = len(tree.end)
    device = str(tree.end.device)
    return create_block_mask(sees, None, None, length, length, device=device, BLOCK_SIZE=BLOCK_SIZE)


@lru_cache(maxsize=1)
def _flex() -> Any:
    """FlexAttention compiled once, for any number of nodes."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
