"""Dynamic 4-bit: which layers stay in 16 bits, by the damage that was measured.

Each layer alone is put into 4 bits and the policy asked for its next-token distributions: the KL
divergence from its own is the layer's damage. Layers that an engine fuses (q, k, v; gate, up) are
one, for vLLM holds them as one matrix and would quantise all of it. Then those with the most damage
a byte are kept, while the budget lasts. That takes damages to add up, which is an assumption: the
report measures what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..lm import LanguageModel
from .bnb import FourBit, linears, must_stay
from .rounding import FOUR_BITS, four_bit
from .yardstick import Yardstick

_FUSED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""What vLLM calls layers that read the same input and are one matrix there."""

_NEGLIGIBLE = 1e-6
"""Nats a token; float32 itself costs about 1e-8."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Layers that are quantised together or not at all."""

    layers: tuple[str, ...]
    fused: str | None = None
    """Their name in vLLM, where it fuses them."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.fused or self.layers[0]

    @property
    def skip_names(self) -> list[str]:
        """What a config must list so that transformers, peft and vLLM leave it alone."""
        return [*self.layers, *([self.fused] if self.fused else [])]


@dataclass(frozen=True, slots=True)
class Damage:
    """What 4 bits do to one unit, everything else being left as it is."""

    unit: Unit
    kl: float
    """Of the policy's next-token distributions, in nats a token."""
    weight_error: float
    """|W' - W| / |W|."""
    output_error: float
    """|(W' - W) x| / |W x + b| over the inputs x of the text."""
    extra_bytes: int
    """What keeping it in 16 bits costs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was measured, and what follows."""

    damages: list[Damage]
    """In the order of the model."""
    kept: list[Unit]
    """The units that stay in 16 bits."""

    @property
    def skip_names(self) -> list[str]:
        """Names for the model's config."""
        return [name for unit in self.kept for name in unit.skip_names]


def units_of(lm: LanguageModel, format: FourBit) -> list[Unit]:
    """The units of a model that could be held in 4 bits, in its order."""
    stays = set(must_stay(lm.model.config, format))
    names = [name for name in linears(lm.model) if name not in stays]
    whole = {member: (fused, members) for fused, members in _FUSED.items() for member in members}
    units: dict[Unit, None] = {}
    for name in names:
        parent, _, last = name.rpartition(".")
        fused, members = whole.get(last, (last, (last,)))
        layers = tuple(f"{parent}.{member}" for member in members)
        is_fused = len(layers) > 1 and all(layer in names for layer in layers)
        units[Unit(layers, f"{parent}.{fused}") if is_fused else Unit((name,))] = None
    return list(units)


def measure(lm: LanguageModel, yardstick: Yardstick, format: FourBit) -> list[Damage]:
    """The damage of each unit; the model is as it was afterwards.

    Args:
        lm: The reference, not quantised.
        yardstick: Of the same model.
        format: What the unit is put into.
    """
    layers = linears(lm.model)
    return [
        _measure(lm, yardstick, format, unit, [layers[name] for name in unit.layers])
        for unit in units_of(lm, format)
    ]


def plan(lm: LanguageModel, yardstick: Yardstick, budget: float) -> Plan:
    """Measure a model in NF4, and choose what to keep.

    Args:
        lm: The model, not quantised.
        yardstick: Of the same model.
        budget: How much larger than plain NF4 the model may get, as a share of it.
    """
    damages = measure(lm, yardstick, "nf4")
    return Plan(damages, choose(damages, budget * _plain_bytes(lm, damages)))


def choose(damages: Sequence[Damage], budget_bytes: float) -> list[Unit]:
    """The units to keep in 16 bits: most damage a byte first, while the budget lasts."""
    kept = []
    for damage in sorted(damages, key=lambda d: d.kl / d.extra_bytes, reverse=True):
        if damage.kl > _NEGLIGIBLE and damage.extra_bytes <= budget_bytes:
            kept.append(damage.unit)
            budget_bytes -= damage.extra_bytes
    return kept


def _plain_bytes(lm: LanguageModel, damages: Sequence[Damage]) -> float:
    """Size of a model of which nothing is kept."""
    return 2.0 * lm.num_parameters - sum(damage.extra_bytes for damage in damages)


@torch.no_grad()
def _measure(
    lm: LanguageModel,
    yardstick: Yardstick,
    format: FourBit,
    unit: Unit,
    layers: Sequence[torch.nn.Linear],
) -> Damage:
    weights = [layer.weight.data for layer in layers]
    rounded = [four_bit(weight, format) for weight in weights]
    outputs = _Outputs()
    hooks = [
        layer.register_forward_hook(outputs.compare(weight))
        for layer, weight in zip(layers, weights, strict=True)
    ]
    try:
        for layer, weight in zip(layers, rounded, strict=True):
            layer.weight.data = weight
        kl = yardstick.kl(lm)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data = weight
    pairs = zip(rounded, weights, strict=True)
    error = sum(float((a - b).square().sum()) for a, b in pairs)
    size = sum(float(weight.square().sum()) for weight in weights)
    count = sum(weight.numel() for weight in weights)
    extra = round(count * (16 - FOUR_BITS) / 8)
    return Damage(unit, kl, math.sqrt(error / size), outputs.relative_error, extra)


class _Outputs:
    """Adds up how far layers' outputs are from those of the weights they had."""

    def __init__(self) -> None:
        self._error = self._size = 0.0

    @property
    def relative_error(self) -> float:
        """Root of the sums' ratio."""
        return math.sqrt(self._error / self._size)

    def compare(self, weight: torch.Tensor) -> Callable[..., None]:
        """A forward hook of the layer that had this weight."""

        def hook(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            right = torch.nn.functional.linear(inputs[0], weight, layer.bias)
            self._error += float((output - right).square().sum())
            self._size += float(right.square().sum())

        return hook
