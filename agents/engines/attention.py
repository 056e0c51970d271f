"""Attention to cached keys and values, without copies of them.

transformers copies keys and values for every head that shares them, at every token and layer. Here
the heads of a group are the rows of one matrix instead (grouped-query attention: Ainslie et al.
2023, arXiv 2305.13245).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..attention import NAME as TREE

NAME = "turnhalle_grouped"


def grouped_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in a layer.

    Args:
        module: The layer.
        query: `[B, heads, Q, D]`, heads of a group next to each other.
        key: `[B, groups, L, D]`.
        value: `[B, groups, L, E]`.
        attention_mask: `[B, 1, Q, L]`, 0 where attention is allowed, else the lowest number.
        scaling: Of the scores; 1 / sqrt(D) where it is None.

    Returns:
        `[B, Q, heads, E]`, and no weights.
    """
    rows, heads, length, dim = query.shape
    if length > 1:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True
        )
        return out.transpose(1, 2), None
    groups = key.shape[1]
    grouped = query.reshape(rows, groups, heads // groups, dim)
    grouped = grouped * (dim**-0.5 if scaling is None else scaling)
    scores = (grouped @ key.transpose(2, 3)).add_(attention_mask)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).reshape(rows, 1, heads, value.shape[-1]), None


def can_group(config: Any) -> bool:
    """Is the model's attention plain, so that `grouped_attention` can take its place?"""
    is_plain = not getattr(config, "attn_logit_softcapping", None)
    return is_plain and config._attn_implementation in ("sdpa", TREE)


@contextmanager
def grouping(config: Any) -> Iterator[None]:
    """Layers of the model that has this configuration attend by `grouped_attention`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, grouped_attention)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
