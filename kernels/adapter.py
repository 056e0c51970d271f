"""What a layer of peft computes, where that is plain LoRA: W x + s B (A x)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Adapter(NamedTuple):
    """An adapter in force: `a` `[r, K]`, `b` `[N, r]`, and what the update is scaled by."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float


def adapter_of(module: Any) -> Adapter | None:
    """The adapter of a layer; None if the layer computes anything but a plain one's update.

    Not plain are layers with several adapters in force, with one that is merged or switched off,
    with dropout, a bias of its own, or a variant of LoRA.
    """
    names = getattr(module, "active_adapters", [])
    if len(names) != 1 or names[0] not in getattr(module, "lora_A", ()):
        return None
    name = names[0]
    is_plain = (
        not module.disable_adapters
        and not module.merged
        and name not in module.lora_variant
        and getattr(module.lora_dropout[name], "p", 0.0) == 0.0
        and module.lora_B[name].bias is None
    )
    if not is_plain:
        return None
    return Adapter(module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name])
