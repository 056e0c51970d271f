"""Whether a model still computes what it did: its outputs and a gradient, before and after."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Most that outputs and gradients may differ, relative to their norm, by dtype. What is rounded
once instead of twice differs by about 2^-8 a layer in bfloat16."""

SCALES = [4.0**-n for n in range(9)]


class Probe(NamedTuple):
    """What 16 tokens come to."""

    logits: torch.Tensor
    gradient: torch.Tensor
    """Of the embedded tokens: it went through every layer."""
    scale: float
    """Of the loss, so that its gradient fits the dtype."""


def probe(model: Any, scale: float | None = None) -> Probe:
    """Run a causal transformers model, forward and backward.

    Args:
        model: Its outputs are compared with what they were before something was changed.
        scale: Of the loss; None finds one, since gradients may overflow float16 where losses are
            not scaled.
    """
    embed = model.get_input_embeddings()
    ids = torch.arange(16, device=embed.weight.device)[None] % embed.num_embeddings
    with torch.enable_grad():
        for tried in SCALES if scale is None else (scale,):
            # Forward again, for compiled layers can be gone through backwards only once.
            inputs = embed(ids).detach().requires_grad_(True)
            logits = model(inputs_embeds=inputs, use_cache=False).logits
            loss = tried * logits.float().log_softmax(-1)[..., 0].sum()
            (gradient,) = torch.autograd.grad(loss, inputs)
            if gradient.isfinite().all():
                break
        else:
            if scale is None:
                raise RuntimeError(
                    f"the model's own gradients overflow {gradient.dtype}, so that the kernels "
                    "cannot be compared with it; hold it in bf16 or fp32"
                )
    return Probe(logits.detach().float(), gradient.float(), tried)


def difference(before: Probe, after: Probe, dtype: torch.dtype) -> str:
    """What differs by more than is allowed, in words; empty where nothing does."""
    bound = TOLERANCE[dtype]
    for name in ("logits", "gradient"):
        one, two = getattr(before, name), getattr(after, name)
        error = float((one - two).norm() / one.norm())
        if not error <= bound:
            return f"{name} by {error:.2g} of their norm (allowed {bound:.2g})"
    return ""
