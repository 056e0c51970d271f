"""What the layers of a transformers model call to attend: PyTorch's attention, or that of a tree.

It stays in place once it is put in, for the backward pass of checkpointed layers calls it again.
"""

from __future__ import annotations

from typing import Any

import torch

from turnhalle.kernels.tree_attention import Tree, tree_attention

NAME = "turnhalle_tree"


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    tree: Tree | None = None,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in a layer.

    Args:
        module: The layer.
        query: `[B, heads, Q, D]`.
        key: `[B, kv_heads, L, D]`.
        value: Like `key`.
        attention_mask: Of a tree what `reach` makes.
        tree: Whose nodes the tokens are; None for rows.
        scaling: Of the scores.
        rest: What PyTorch's attention takes besides.

    Returns:
        `[B, Q, heads, D]`, and no weights.
    """
    if tree is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **rest
        )
    return _attend_in_tree(query, key, value, tree, attention_mask, scaling), None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_in_tree(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tree: Tree,
    reaching: torch.Tensor | None,
    scale: float | None,
) -> torch.Tensor:
    """Hidden from `torch.compile`, which would unroll a tree's pieces, anew for each tree."""
    assert reaching is not None
    window = int(reaching) or None
    return tree_attention(query, key, value, tree, scale=scale, window=window).transpose(1, 2)


def reach(window: int | None) -> torch.Tensor:
    """A mask that says only how far up a node sees, 0 for all the way: all that a tree needs.

    Masks are what transformers hands to layers by their kind, in four dimensions unchanged.
    """
    return torch.full((1, 1, 1, 1), window or 0)


def install(model: Any, config: Any) -> str:
    """Let the layers of a model attend by `attend`, if they would by PyTorch's attention alone.

    Returns:
        Why not; empty where they do.
    """
    if config._attn_implementation == NAME:
        return ""  # the copy of a model where it is in place
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation}, not PyTorch's"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps its attention scores"
    if not model._supports_attention_backend:
        return "its attention cannot be exchanged"
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config._attn_implementation = NAME
    return ""
