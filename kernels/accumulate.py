"""In which precision sums are kept: products of 16-bit matrices are never summed in 16 bits."""

from __future__ import annotations

import torch


def accumulator(tensor: torch.Tensor) -> torch.dtype:
    """What sums of the tensor's elements are kept in: float32, for float64 float64."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product, summed and returned in float32 (float64 if they are), of whatever dtype."""
    if a.is_cuda and a.dtype in (torch.float16, torch.bfloat16):
        return torch.mm(a, b, out_dtype=torch.float32)
    wide = accumulator(a)
    return a.to(wide) @ b.to(wide)
