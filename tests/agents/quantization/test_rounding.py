"""Few bits: what a weight comes back as."""

from __future__ import annotations

import pytest
import torch

from turnhalle.agents.quantization.rounding import FOUR_BITS, bits_of, four_bit, simulate


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    return torch.randn(96, 256, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "levels", "most"), [("int3", 8, 0.19), ("int2", 4, 0.35), ("ternary", 3, 0.44)]
)
def test_simulated_weights_have_few_levels_a_block_and_the_error_that_theory_has(
    weight: torch.Tensor, kind: str, levels: int, most: float
) -> None:
    # Max 1960, table II: uniform quantisers of a normal with 8, 4 and 3 levels err by 0.193, 0.345
    # and 0.436; a scale of its own for each block of 64 does a little better.
    rounded = simulate(weight, kind)  # type: ignore[arg-type]
    counts = [len(block.unique()) for block in rounded.view(-1, 64)]
    assert max(counts) <= levels
    error = float((rounded - weight).norm() / weight.norm())
    assert 0.9 * most < error < most


def test_a_last_block_may_be_shorter_and_zeros_stay_zero() -> None:
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    for kind in ("int3", "int2", "ternary"):
        rounded = simulate(weight, kind)  # type: ignore[arg-type]
        assert rounded.shape == weight.shape
        assert rounded.dtype == weight.dtype
        assert (rounded - weight).norm() < 0.5 * weight.norm()
        zeros = simulate(torch.zeros(3, 50), kind)  # type: ignore[arg-type]
        assert zeros.abs().max() < 1e-19


def test_bits_count_what_a_weight_and_its_scale_take() -> None:
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(
        torch.randn(256, 1024), quant_type="nf4", compress_statistics=True
    )
    taken = packed.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert 8 * taken / (256 * 1024) == pytest.approx(FOUR_BITS)
    assert bits_of("ternary") == pytest.approx(1.585 + 0.25, abs=1e-3)
    assert bits_of("int2") == 2.25


@pytest.mark.parametrize("format", ["nf4", "fp4"])
def test_four_bits_are_what_the_loaded_layer_computes_with(
    weight: torch.Tensor, format: str
) -> None:
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(256, 96, bias=False, quant_type=format, compress_statistics=True)
    layer.weight = bnb.nn.Params4bit(weight.clone(), quant_type=format, compress_statistics=True)
    layer.to("cpu")
    x = torch.eye(256)
    assert torch.equal(layer(x).T, four_bit(weight, format))  # type: ignore[arg-type]
