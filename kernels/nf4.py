"""4-bit weights with doubly quantised scales to 16 or 32 bits, bit for bit as bitsandbytes does it.

    scale[b] = code2[q2[b]] * absmax2[b // 256] + offset      (each step rounded to float32)
    w[i]     = code[q[i]] * scale[i // 64]                    (float32, then the dtype)

One kernel instead of three launches, and no float32 scales in memory: N K (1/2 + 1/64) bytes in and
2 N K out. It writes into a matrix with longer rows where asked to, so that an adapter's columns can
stand beside the weights. Levels come from a table: a tree of comparisons would be bound by
instructions (27 a value, 47 us at 4096 x 14336 on an H200; a table 19 us, the memory 34 us).

Dettmers et al. 2023, arXiv 2305.14314. Any code of 16 levels works, so FP4 does too.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# ruff: noqa: N803, N806

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .jit import accelerated, cdiv, jit, tl

BLOCKS = 64
"""Blocks of one program: 4,096 values, 14.5 instructions each on sm_90 (with 32 blocks 15.0)."""


class Scales(NamedTuple):
    """Quantised scales of the blocks: what their scale was divided by, and from which mean."""

    absmax: torch.Tensor
    """`[num_blocks / block_size]` float32."""
    code: torch.Tensor
    """`[256]` float32 levels."""
    offset: torch.Tensor
    """One float32 number, on the device."""
    block_size: int


class Packed(NamedTuple):
    """A matrix in 4 bits."""

    values: torch.Tensor
    """uint8, two values each: the first in the high half."""
    absmax: torch.Tensor
    """A scale a block: float32, or uint8 with `scales`."""
    code: torch.Tensor
    """`[16]` float32 levels."""
    pairs: torch.Tensor
    """`[256]` int64: the two float32 levels that a byte stands for, side by side."""
    scales: Scales | None
    block_size: int
    shape: tuple[int, int]


def packed(parameter: Any) -> Packed:
    """What a `bitsandbytes.nn.Params4bit` holds; nothing is copied.

    Raises:
        ValueError: It is not quantised yet (that happens when it moves to its device), or its rows
            hold an odd number of values.
    """
    state = parameter.quant_state
    if state is None:
        raise ValueError("the parameter is not quantised yet: move its module to a device first")
    if state.shape[1] % 2:
        raise ValueError(f"rows of {state.shape[1]} values cannot be read two at a time")
    scales = None
    if state.nested:
        inner = state.state2
        scales = Scales(inner.absmax, inner.code, state.offset, inner.blocksize)
    values = parameter.data.view(torch.uint8).reshape(-1)
    byte = torch.arange(256, device=values.device)
    pairs = torch.stack([state.code[byte >> 4], state.code[byte & 15]], dim=1).view(torch.int64)
    return Packed(
        values, state.absmax, state.code, pairs[:, 0], scales, state.blocksize, tuple(state.shape)
    )


def dequantize(weight: Packed, dtype: torch.dtype, out: torch.Tensor | None = None) -> torch.Tensor:
    """The matrix `[N, K]` in 16 or 32 bits.

    Args:
        weight: In 4 bits.
        dtype: Of the result.
        out: `[N, K]` to write into; its rows may be further apart than K.
    """
    out = weight.values.new_empty(weight.shape, dtype=dtype) if out is None else out
    run = dequantize_triton if accelerated(weight.values) else dequantize_reference
    run(weight, out)
    return out


def dequantize_reference(weight: Packed, out: torch.Tensor) -> None:
    """Plain PyTorch, any device."""
    absmax = weight.absmax
    if weight.scales is not None:
        inner = weight.scales
        block = torch.arange(len(absmax), device=absmax.device) // inner.block_size
        absmax = inner.code[absmax.int()] * inner.absmax[block] + inner.offset
    # A byte is looked up as a whole: half as many look-ups, and no shifts.
    levels = weight.pairs[weight.values.int()].view(torch.float32)
    if levels.numel() % weight.block_size:
        levels = levels * absmax.repeat_interleave(weight.block_size)[: levels.numel()]
    else:
        levels.view(-1, weight.block_size).mul_(absmax[:, None])
    out.copy_(levels[: out.numel()].view(weight.shape))


@jit()
def dequantize_kernel(
    values_ptr, absmax_ptr, pairs_ptr, absmax2_ptr, code2_ptr, offset_ptr, out_ptr,
    num_values, row_stride, NESTED: tl.constexpr, COLUMNS: tl.constexpr, DENSE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, SCALE_BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """BLOCKS blocks of values; see the module. Compiled without fused multiply-add: two roundings.

    A byte is looked up as a whole: one load of 8 bytes gives both of its levels.
    """
    HALF: tl.constexpr = BLOCK_SIZE // 2
    block = tl.program_id(0) * BLOCKS + tl.arange(0, BLOCKS)
    is_block = block * BLOCK_SIZE < num_values
    if NESTED:
        level = tl.load(absmax_ptr + block, mask=is_block, other=0).to(tl.int32)
        absmax2 = tl.load(absmax2_ptr + block // SCALE_BLOCK, mask=is_block, other=0.0)
        scale = tl.load(code2_ptr + level) * absmax2 + tl.load(offset_ptr)
    else:
        scale = tl.load(absmax_ptr + block, mask=is_block, other=0.0)
    pair = block[:, None] * HALF + tl.arange(0, HALF)[None, :]
    byte = tl.load(values_ptr + pair, mask=2 * pair < num_values, other=0).to(tl.int32)
    levels = tl.load(pairs_ptr + byte)
    first = levels.to(tl.int32).to(tl.float32, bitcast=True) * scale[:, None]
    second = (levels >> 32).to(tl.int32).to(tl.float32, bitcast=True) * scale[:, None]
    at = block[:, None] * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)[None, :]
    inside = at < num_values
    # COLUMNS is fixed, so a division is a multiplication; mostly one a block is enough.
    if not DENSE and COLUMNS % BLOCK_SIZE == 0:
        at += (block * BLOCK_SIZE // COLUMNS * (row_stride - COLUMNS))[:, None]
    elif not DENSE:
        at += at // COLUMNS * (row_stride - COLUMNS)
    tl.store(out_ptr + at, tl.interleave(first, second), mask=inside)


def dequantize_triton(weight: Packed, out: torch.Tensor) -> None:
    """One launch of the kernel."""
    inner = weight.scales
    num_values, columns = out.numel(), weight.shape[1]
    dequantize_kernel[(cdiv(num_values, BLOCKS * weight.block_size),)](
        weight.values, weight.absmax, weight.pairs,
        inner.absmax if inner else None, inner.code if inner else None,
        inner.offset if inner else None, out, num_values, out.stride(0),
        NESTED=inner is not None, COLUMNS=columns, DENSE=out.stride(0) == columns,
        BLOCK_SIZE=weight.block_size, SCALE_BLOCK=inner.block_size if inner else 1, BLOCKS=BLOCKS,
        num_warps=4, enable_fp_fusion=False,
    )  # fmt: skip
