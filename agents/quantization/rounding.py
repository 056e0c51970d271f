"""Weights as they come back from few bits: 4 through bitsandbytes, fewer simulated.

    w'[i] = level(w[i] / scale) * scale,   64 weights a scale

The simulated ones have evenly spaced levels and, for each block, the scale that rounds it best; no
calibration, no training. They show what rounding costs at a size, not what the best method reaches,
and nothing computes with them faster.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

from .bnb import BLOCK_SIZE, FourBit

Simulated = Literal["int3", "int2", "ternary"]
"""8, 4 or 3 levels: 3, 2 and 1.58 bits."""

_NUM_LEVELS: dict[Simulated, int] = {"int3": 8, "int2": 4, "ternary": 3}
_SHRINKS = [0.3 + 0.05 * i for i in range(15)]
"""Scales tried, as shares of the block's largest weight."""

FOUR_BITS = 4 + 8 / BLOCK_SIZE + 32 / (256 * BLOCK_SIZE)
"""Bits of a weight in nf4 or fp4: its own, its scale's 8, the float32 of 256 scales."""


def bits_of(kind: Simulated) -> float:
    """Bits of a weight, with a scale of 16 bits a block."""
    return math.log2(_NUM_LEVELS[kind]) + 16 / BLOCK_SIZE


def four_bit(weight: torch.Tensor, format: FourBit) -> torch.Tensor:
    """What a matrix `[out, in]`, with `in` a multiple of 64, is in 4 bits, bit for bit."""
    from ..quiet import Quiet

    with Quiet():
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight, quant_type=format, compress_statistics=True)
    value: torch.Tensor = dequantize_4bit(packed, state)
    return value


def simulate(weight: torch.Tensor, kind: Simulated) -> torch.Tensor:
    """What a matrix is in fewer bits than 4, in its own dtype; its last block may be shorter."""
    values = weight.detach().float().flatten()
    blocks = torch.nn.functional.pad(values, (0, -len(values) % BLOCK_SIZE)).view(-1, BLOCK_SIZE)
    code = torch.linspace(-1, 1, _NUM_LEVELS[kind], device=weight.device)
    largest = blocks.abs().amax(dim=1, keepdim=True).clamp(min=1e-20)
    best, least = torch.zeros_like(blocks), torch.full_like(largest, math.inf)
    for shrink in _SHRINKS:
        scale = (shrink * largest).to(torch.bfloat16).float()
        rounded = code[torch.bucketize(blocks / scale, (code[1:] + code[:-1]) / 2)] * scale
        error = (rounded - blocks).square().sum(dim=1, keepdim=True)
        best = torch.where(error < least, rounded, best)
        least = torch.minimum(error, least)
    return best.flatten()[: len(values)].view_as(weight).to(weight.dtype)
