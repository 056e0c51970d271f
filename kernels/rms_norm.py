"""Root-mean-square normalisation with a frozen weight, and the residual sum before it.

    s = x + residual,   y = s rstd (w + offset),   rstd = 1 / sqrt(mean(s^2) + eps)
    ds = rstd (g - n mean(g n)) + what comes from s itself,   g = dy (w + offset),   n = s rstd

Computed in float32 and rounded once (Llama's module rounds n before it multiplies: the two differ
by one rounding in 16 bits, and not at all in float32). 4 M H bytes forward and 6 M H back, with the
sum 8 M H instead of 10. The weight is frozen under an adapter; one that learns goes through the
plain formula, for its gradient.

Zhang and Sennrich 2019, arXiv 1910.07467.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# ruff: noqa: N803

from __future__ import annotations

from typing import Any

import torch

from .accumulate import accumulator
from .jit import accelerated, jit, tl, triton


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float = 0.0
) -> torch.Tensor:
    """Normalise the last axis.

    Args:
        x: `[..., H]`.
        weight: `[H]`.
        eps: Added to the mean square.
        offset: Added to the weight: 1 in Gemma.
    """
    return add_rms_norm(x, None, weight, eps, offset)[0]


def add_rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    offset: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add, then normalise: returns the normalised sum, and the sum, both `[..., H]`."""
    if not torch.is_grad_enabled():
        return _forward(x, residual, weight, eps, offset)[:2]
    if weight.requires_grad:
        return rms_norm_reference(x, residual, weight, eps, offset)
    apply: Any = _RmsNorm.apply
    return apply(x, residual, weight, eps, offset)  # type: ignore[no-any-return]


def rms_norm_reference(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    offset: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain PyTorch, any device, gradients by autograd."""
    total = x if residual is None else x + residual
    wide = total.to(accumulator(x))
    rstd = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide * rstd * (weight.to(wide.dtype) + offset)).to(x.dtype), total


@jit()
def forward_kernel(
    x_ptr, residual_ptr, w_ptr, total_ptr, y_ptr, rstd_ptr, eps, offset,
    HAS_RESIDUAL: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < HIDDEN
    at = row * HIDDEN + columns
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        x += tl.load(residual_ptr + at, mask=inside, other=0.0).to(tl.float32)
        # What is normalised is the sum as the next layer reads it: rounded.
        x = x.to(total_ptr.dtype.element_ty).to(tl.float32)
        tl.store(total_ptr + at, x, mask=inside)
    w = tl.load(w_ptr + columns, mask=inside, other=0.0).to(tl.float32) + offset
    rstd = tl.rsqrt(tl.sum(x * x, axis=0) / HIDDEN + eps)
    tl.store(rstd_ptr + row, rstd)
    tl.store(y_ptr + at, x * rstd * w, mask=inside)


@jit()
def backward_kernel(
    total_ptr, w_ptr, rstd_ptr, dy_ptr, dtotal_ptr, dx_ptr, offset,
    HAS_RESIDUAL: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row; `dtotal` is the gradient of the sum from its other readers."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < HIDDEN
    at = row * HIDDEN + columns
    rstd = tl.load(rstd_ptr + row)
    normal = tl.load(total_ptr + at, mask=inside, other=0.0).to(tl.float32) * rstd
    w = tl.load(w_ptr + columns, mask=inside, other=0.0).to(tl.float32) + offset
    g = tl.load(dy_ptr + at, mask=inside, other=0.0).to(tl.float32) * w
    # Columns outside have normal = 0.
    dx = rstd * (g - normal * (tl.sum(g * normal, axis=0) / HIDDEN))
    if HAS_RESIDUAL:
        dx += tl.load(dtotal_ptr + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx_ptr + at, dx, mask=inside)


def forward_triton(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    offset: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y, the sum (x itself without a residual), and rstd `[M]` float32."""
    x = x.contiguous()
    y = torch.empty_like(x)
    total = x if residual is None else torch.empty_like(x)
    width = x.shape[-1]
    rstd = x.new_empty(x.numel() // width, dtype=torch.float32)
    forward_kernel[(len(rstd),)](
        x, residual.contiguous() if residual is not None else None, weight, total, y, rstd,
        eps, offset, HAS_RESIDUAL=residual is not None, **_sizes(width),
    )  # fmt: skip
    return y, total, rstd


def backward_triton(
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    dy: torch.Tensor,
    dtotal: torch.Tensor | None,
    offset: float,
) -> torch.Tensor:
    """The gradient of the sum, which is that of x and of the residual."""
    total, weight, rstd = saved
    dx = torch.empty_like(total)
    backward_kernel[(len(rstd),)](
        total, weight, rstd, dy.contiguous(), dtotal.contiguous() if dtotal is not None else None,
        dx, offset, HAS_RESIDUAL=dtotal is not None, **_sizes(total.shape[-1]),
    )  # fmt: skip
    return dx


def forward_plain(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    offset: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `forward_triton`, by PyTorch."""
    total = x if residual is None else x + residual
    wide = total.to(accumulator(x))
    rstd = reciprocal_rms(wide, eps)
    y = (wide * rstd).mul_(_scale(weight, offset, wide.dtype))
    return y.to(x.dtype), total, rstd


def backward_plain(
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    dy: torch.Tensor,
    dtotal: torch.Tensor | None,
    offset: float,
) -> torch.Tensor:
    """As `backward_triton`, by PyTorch."""
    total, weight, rstd = saved
    wide = total.to(rstd.dtype)
    g = dy.to(wide.dtype) * _scale(weight, offset, wide.dtype)
    mean = torch.linalg.vecdot(g, wide)[..., None].mul_(rstd.square().div_(wide.shape[-1]))
    dx = g.addcmul_(wide, mean, value=-1.0).mul_(rstd)
    return (dx if dtotal is None else dx.add_(dtotal)).to(total.dtype)


def _scale(weight: torch.Tensor, offset: float, dtype: torch.dtype) -> torch.Tensor:
    wide = weight.to(dtype)
    return wide + offset if offset else wide


def reciprocal_rms(wide: torch.Tensor, eps: float) -> torch.Tensor:
    """1 / sqrt(mean of squares + eps) `[..., 1]`."""
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    rms: torch.Tensor = norm.square_().div_(wide.shape[-1]).add_(eps)
    return rms.rsqrt_()


def _sizes(width: int) -> dict[str, int]:
    """A row a program, 8 to 32 values a thread."""
    block = triton.next_power_of_2(width)
    return {"HIDDEN": width, "BLOCK": block, "num_warps": min(16, max(1, block // 512))}


def _forward(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    offset: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    run: Any = forward_triton if accelerated(x) else forward_plain
    return run(x, residual, weight, eps, offset)  # type: ignore[no-any-return]


class _RmsNorm(torch.autograd.Function):
    """Saves the sum and rstd."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        residual: torch.Tensor | None,
        weight: torch.Tensor,
        eps: float,
        offset: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y, total, rstd = _forward(x, residual, weight, eps, offset)
        ctx.save_for_backward(total, weight, rstd)
        ctx.offset, ctx.has_residual = offset, residual is not None
        # An input may not be an output: without a residual nobody reads the sum.
        return y, total if residual is not None else total.detach()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dtotal = grads[1] if ctx.has_residual else None
        run = backward_triton if accelerated(grads[0]) else backward_plain
        dx = run(ctx.saved_tensors, grads[0], dtotal, ctx.offset)
        return dx, dx if ctx.has_residual else None, None, None, None
