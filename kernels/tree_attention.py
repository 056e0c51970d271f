"""Attention in a forest of tokens: every token sees its ancestors and itself, nothing else.

Rollouts of one task share prefixes; as a tree, each shared token is computed once, and every branch
gets what it would get alone. A node is an ancestor of another exactly if the other lies in its
interval of the depth-first order:

    q sees k   if   start[k] <= start[q] < end[k]   (and depth[q] - depth[k] < window)

So the mask is two numbers a node instead of N^2 bits. On CUDA FlexAttention skips blocks of 128 x
128 without a pair; on a CPU the mask is dense for PyTorch's own attention.

Limits: blocks are only sparse if branches lie together, so order nodes depth-first (`Tree.order`).
FlexAttention runs at about 0.6 of FlashAttention 3's speed on Hopper; two variable-length calls
merged by their log-sum-exp would suit a single shared prefix better, and are not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

BLOCK_SIZE = 128
"""Nodes of a block that FlexAttention skips or computes."""


class Tree(NamedTuple):
    """A forest of N nodes in an order in which parents come before their children."""

    start: torch.Tensor
    """`[N]` int32: place in the depth-first order."""
    end: torch.Tensor
    """`[N]` int32: one past the last place of the subtree."""
    depth: torch.Tensor
    """`[N]` int64: number of ancestors; the position in every branch through the node."""

    @property
    def order(self) -> torch.Tensor:
        """`[N]`: nodes, depth-first."""
        return self.start.argsort()

    def to(self, device: torch.device) -> Tree:
        """The same tree on a device."""
        return Tree(*(tensor.to(device) for tensor in self))


def tree_of(parents: Sequence[int] | NDArray[np.int64]) -> Tree:
    """The tree of parent pointers `[N]`, -1 for roots.

    Raises:
        ValueError: A node comes before its parent.
    """
    up = np.asarray(parents, dtype=np.int64)
    if (late := np.flatnonzero(up >= np.arange(len(up)))).size:
        node = int(late[0])
        raise ValueError(f"node {node} comes before its parent {up[node]}; put parents first")
    size, depth = [1] * len(up), [0] * len(up)
    above = up.tolist()
    for node in range(len(above) - 1, -1, -1):
        if above[node] >= 0:
            size[above[node]] += size[node]
    start, free, next_root = [0] * len(above), [0] * len(above), 0
    for node, parent in enumerate(above):
        if parent < 0:
            start[node], next_root = next_root, next_root + size[node]
        else:
            depth[node] = depth[parent] + 1
            start[node], free[parent] = free[parent], free[parent] + size[node]
        free[node] = start[node] + 1
    starts = torch.tensor(start, dtype=torch.int32)
    return Tree(starts, starts + torch.tensor(size, dtype=torch.int32), torch.tensor(depth))


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
    shared: dict[str, Any] = {"scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    out: torch.Tensor
    if query.is_cuda:
        out = _flex()(query, key, value, block_mask=block_mask(tree, window), **shared)
    else:
        mask = dense_mask(tree, window)
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, **shared
        )
    return out


def dense_mask(tree: Tree, window: int | None = None) -> torch.Tensor:
    """`[1, 1, N, N]` bool: who sees whom; N^2 bytes. transformers takes it as attention_mask."""
    nodes = torch.arange(len(tree.start), device=tree.start.device)
    return _sees(tree, nodes[:, None], nodes[None, :], window)[None, None]


def block_mask(tree: Tree, window: int | None = None) -> Any:
    """The mask for FlexAttention, which transformers takes as attention_mask too."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(_batch: Any, _head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return _sees(tree, query, key, window)

    length = len(tree.start)
    device = str(tree.start.device)
    return create_block_mask(sees, None, None, length, length, device=device, BLOCK_SIZE=BLOCK_SIZE)


def _sees(tree: Tree, query: torch.Tensor, key: torch.Tensor, window: int | None) -> torch.Tensor:
    place = tree.start[query]
    seen = (tree.start[key] <= place) & (place < tree.end[key])
    return seen if window is None else seen & (tree.depth[query] - tree.depth[key] < window)


@lru_cache(maxsize=1)
def _flex() -> Any:
    """FlexAttention compiled once, for any number of nodes."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
