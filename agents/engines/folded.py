"""Layers folded for sampling on a CPU: base and adapter in one product.

At one token a row, a 4-bit layer with an adapter spends most of its time unpacking the base and on
the adapter's small products. While the engine computes, every such layer here has a float32 copy of
W + s B A. The base itself is never changed: the copies are the engine's own, they are made anew
after every update and whenever a weight is changed in place, and they differ from base and adapter
apart by rounding in float32 alone, which parity checks bound. A base in 16 bits is summed up in
float32 too: in its own 16 bits W + s B A would lose the small steps that an adapter learns by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from turnhalle.kernels.accumulate import accumulator
from turnhalle.kernels.adapter import adapter_of

from ..lm import LanguageModel
from .export import plain_weight

_MAX_BYTES = 2 * 2**30
"""Larger models stay as they are: copies would crowd out what else the machine is used for."""


class Folded:
    """The folded layers of a model; none where it is not on a CPU."""

    def __init__(self, lm: LanguageModel) -> None:
        found = _mixed_layers(lm.model) if lm.device.type == "cpu" else []
        is_small = sum(4 * m.in_features * m.out_features for m in found) <= _MAX_BYTES
        self._layers = found if is_small else []
        self._parameters: list[torch.nn.Parameter] = []
        self._forwards: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {}
        self._made_of: list[Any] | None = None

    def forget(self) -> None:
        """Fold anew before the next use.

        Some changes show nowhere: of `.data`, by a fused optimizer, or of an adapter's scale.
        """
        self._made_of = None

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Within the block the layers compute folded."""
        if self._made_of != self._state():
            self._parameters = [p for layer in self._layers for p in layer.parameters()]
            folded = {i: fold(layer) for i, layer in enumerate(self._layers)}
            self._forwards = {i: forward for i, forward in folded.items() if forward is not None}
            self._made_of = self._state()
        try:
            # Past `Module.__setattr__`, which takes as long as such a layer.
            for i, forward in self._forwards.items():
                vars(self._layers[i])["forward"] = forward
            yield
        finally:
            for i in self._forwards:
                del vars(self._layers[i])["forward"]

    def _state(self) -> list[Any]:
        """What changes when a weight is changed in place, or an adapter switched on or off."""
        state: list[Any] = [p._version for p in self._parameters]
        return state + [_adapters_in_force(layer) for layer in self._layers]


@torch.no_grad()
def fold(layer: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What a layer computes, as one product; None where its adapter is more than plain LoRA."""
    base = getattr(layer, "base_layer", layer)
    weight = plain_weight(base.weight)
    weight = weight.to(accumulator(weight))
    if _adapters_in_force(layer):
        adapter = adapter_of(layer)
        if adapter is None:
            return None
        a, b = adapter.a.to(weight.dtype), adapter.b.to(weight.dtype)
        weight = torch.addmm(weight, b, a, alpha=adapter.scale)
    bias = None if base.bias is None else base.bias.to(weight.dtype)
    return partial(_wide_linear, weight=weight, bias=bias)


def _wide_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return linear(x.to(weight.dtype), weight, bias).to(x.dtype)


def _adapters_in_force(layer: Any) -> list[str]:
    names: list[str] = getattr(layer, "active_adapters", [])
    return [] if not names or layer.disable_adapters else names


def _mixed_layers(model: Any) -> list[Any]:
    """Linear layers that are more than one product of floats: with an adapter, or in 4 bits."""
    adapted = [m for m in model.modules() if hasattr(m, "lora_A") and _is_linear(m.base_layer)]
    bases = {layer.base_layer for layer in adapted}
    return adapted + [m for m in model.modules() if _is_4bit(m) and m not in bases]


def _is_linear(module: Any) -> bool:
    return type(module) is torch.nn.Linear or _is_4bit(module)


def _is_4bit(module: Any) -> bool:
    """Of bitsandbytes; peft has a class of that name too."""
    return type(module).__name__ == "Linear4bit" and not hasattr(module, "base_layer")
