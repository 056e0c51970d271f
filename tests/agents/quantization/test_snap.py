"""Weights that snap to what NF4 holds lose nothing in 4 bits."""

from __future__ import annotations

import bitsandbytes as bnb
import pytest
import torch

from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.quantization.snap import snap
from turnhalle.envs.errors import ModelError


@pytest.mark.parametrize(
    "shape", [(64, 64), (128, 128), (384, 128), (128, 256), (192, 64), (1, 64)]
)
@pytest.mark.parametrize("scale", [1e-3, 0.04, 30.0])
def test_snapped_weights_survive_double_quantisation_bit_for_bit(
    shape: tuple[int, int], scale: float
) -> None:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale
    snapped = snap(weight)
    packed, state = quantize_4bit(snapped, quant_type="nf4", compress_statistics=True)
    assert torch.equal(dequantize_4bit(packed, state), snapped)
    assert torch.equal(snap(snapped), snapped)
    assert (snapped - weight).norm() / weight.norm() < 0.12


def test_weights_that_do_not_fit_blocks_cannot_be_snapped() -> None:
    with pytest.raises(ModelError, match="multiple of 64, got 96"):
        snap(torch.zeros(4, 96))


def test_the_built_in_policy_loses_nothing_in_four_bits() -> None:
    ids = torch.arange(6, 200)[None]
    plain, quantised = (
        load_model(ModelOptions(precision=p, device="cpu")) for p in ("fp32", "nf4")
    )
    with torch.no_grad():
        a, b = (lm.head(lm.hidden_states(ids)) for lm in (plain, quantised))
    assert (a - b).abs().max() < 1e-4
    layers = [m for m in quantised.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(layers) == 7 * quantised.num_layers
