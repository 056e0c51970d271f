"""4-bit weights: bit for bit those of bitsandbytes, in the reference and in the kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from turnhalle.kernels.nf4 import dequantize, dequantize_reference, dequantize_triton, packed

bnb = pytest.importorskip("bitsandbytes")  # a machine with a GPU may have none
dequantize_4bit, quantize_4bit = bnb.functional.dequantize_4bit, bnb.functional.quantize_4bit

RUNS = [dequantize_reference, dequantize_triton]


def quantised(
    rows: int, columns: int, kind: str = "nf4", *, nested: bool = True, block_size: int = 64
) -> Any:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * 0.04
    parameter = bnb.nn.Params4bit(
        weight, False, quant_type=kind, compress_statistics=nested, blocksize=block_size
    )
    return parameter.to("cpu")


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("shape", [(64, 128), (3, 64), (300, 192)])
def test_values_are_those_of_bitsandbytes_bit_for_bit(
    run: Any, kind: str, nested: bool, shape: tuple[int, int]
) -> None:
    """300 x 192 has 900 blocks: scales of four kinds, and a last program that is not full."""
    parameter = quantised(*shape, kind, nested=nested)
    theirs = dequantize_4bit(parameter.data, parameter.quant_state)
    ours = torch.full(shape, torch.nan)
    run(packed(parameter), ours)
    assert torch.equal(ours, theirs)


def test_sixteen_bits_are_rounded_once_from_float32() -> None:
    weight = packed(quantised(64, 128))
    exact = dequantize(weight, torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(dequantize(weight, dtype), exact.to(dtype))
    out = torch.empty(64, 128, dtype=torch.float16)
    dequantize_triton(weight, out)
    assert torch.equal(out, exact.half())


@pytest.mark.parametrize("run", RUNS)
def test_it_writes_into_longer_rows_and_nothing_beside_them(run: Any) -> None:
    parameter = quantised(50, 128)
    buffer = torch.full((50, 144), torch.nan)
    run(packed(parameter), buffer[:, :128])
    assert torch.equal(buffer[:, :128], dequantize_4bit(parameter.data, parameter.quant_state))
    assert buffer[:, 128:].isnan().all()


@pytest.mark.parametrize("run", RUNS)
def test_rows_that_blocks_do_not_divide_come_back_right(run: Any) -> None:
    """bitsandbytes 0.50 gets those wrong on a CPU: 0.28 relative error instead of 0.09."""
    weight = torch.randn(96, 96, generator=torch.Generator().manual_seed(0))
    parameter = bnb.nn.Params4bit(weight.clone(), False, quant_type="nf4").to("cpu")
    ours = torch.empty(96, 96)
    run(packed(parameter), ours)
    assert 0.05 < (ours - weight).norm() / weight.norm() < 0.12


@pytest.mark.parametrize("run", RUNS)
def test_other_block_sizes(run: Any) -> None:
    parameter = quantised(16, 256, block_size=128)
    ours = torch.empty(16, 256)
    run(packed(parameter), ours)
    assert torch.equal(ours, dequantize_4bit(parameter.data, parameter.quant_state))


def test_storage_of_another_dtype_is_read_as_bytes() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    plain, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    stored = bnb.nn.Params4bit(weight, False, quant_type="nf4", quant_storage=torch.bfloat16)
    stored = stored.to("cpu")
    assert stored.dtype == torch.bfloat16
    assert torch.equal(dequantize(packed(stored), torch.float32), dequantize_4bit(plain, state))


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="not quantised yet"):
        packed(bnb.nn.Params4bit(torch.zeros(4, 64), False))
    odd = bnb.nn.Params4bit(torch.randn(64, 3), False, quant_type="nf4").to("cpu")
    with pytest.raises(ValueError, match="two at a time"):
        packed(odd)
