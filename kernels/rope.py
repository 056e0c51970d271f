"""Rotary positions on heads, with the normalisation that Qwen3 and Gemma 3 do before it.

    n = x rstd (w + offset)      (without a weight n = x)
    y1 = n1 cos - n2 sin,   y2 = n2 cos + n1 sin      (1, 2: the halves of a head)

The backward pass rotates by the negative angle and goes back through the normalisation, whose rstd
is computed again rather than saved. 4 M heads D bytes each way. A weight that learns goes through
the plain formula, for its gradient.

Su et al. 2021, arXiv 2104.09864.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# ruff: noqa: N803

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .accumulate import accumulator
from .jit import accelerated, jit, tl, triton
from .rms_norm import backward_plain, forward_plain, reciprocal_rms


class HeadNorm(NamedTuple):
    """Normalisation of each head by a weight `[D]`."""

    weight: torch.Tensor
    eps: float
    offset: float = 0.0


def rope(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, norm: HeadNorm | None = None
) -> torch.Tensor:
    """Rotate heads by their positions.

    Args:
        x: `[B, T, heads, D]`; tokens may be apart in memory.
        cos: `[B, T, D]` or `[1, T, D]`; as in transformers, the second half repeats the first.
        sin: Like `cos`.
        norm: Normalise each head before.
    """
    if not torch.is_grad_enabled():
        return _run(x, (cos, sin), norm)
    if norm is not None and norm.weight.requires_grad:
        return rope_reference(x, cos, sin, norm)
    apply: Any = _Rope.apply
    return apply(x, cos, sin, norm)  # type: ignore[no-any-return]


def rope_reference(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, norm: HeadNorm | None
) -> torch.Tensor:
    """Plain PyTorch, any device, gradients by autograd."""
    wide = x.to(accumulator(x))
    if norm is not None:
        rstd = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + norm.eps)
        wide = wide * rstd * (norm.weight.to(wide.dtype) + norm.offset)
    first, second = wide.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (wide * cos[:, :, None] + turned * sin[:, :, None]).to(x.dtype)


@jit("angle_rows")
def rope_kernel(
    x_ptr, cos_ptr, sin_ptr, w_ptr, dy_ptr, out_ptr, token_stride, angle_rows, eps, offset,
    HEADS: tl.constexpr, HALF: tl.constexpr, HAS_NORM: tl.constexpr, BACKWARD: tl.constexpr,
    HEAD_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """All heads of one token. Tokens of x are `token_stride` apart, `out` and `dy` are dense."""
    token = tl.program_id(0).to(tl.int64)
    heads, columns = tl.arange(0, HEAD_BLOCK), tl.arange(0, BLOCK)
    inside = (heads < HEADS)[:, None] & (columns < HALF)[None, :]
    at = heads[:, None] * (2 * HALF) + columns[None, :]
    angle = (token % angle_rows) * (2 * HALF) + columns
    cos = tl.load(cos_ptr + angle, mask=columns < HALF, other=0.0).to(tl.float32)[None, :]
    sin = tl.load(sin_ptr + angle, mask=columns < HALF, other=0.0).to(tl.float32)[None, :]
    dense = token * (2 * HALF * HEADS)
    if HAS_NORM or not BACKWARD:
        first = tl.load(x_ptr + token * token_stride + at, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(x_ptr + token * token_stride + at + HALF, mask=inside, other=0.0).to(
            tl.float32
        )
    if HAS_NORM:
        squares = tl.sum(first * first + second * second, axis=1)
        rstd = tl.rsqrt(squares / (2 * HALF) + eps)[:, None]
        first, second = first * rstd, second * rstd
        w1 = tl.load(w_ptr + columns, mask=columns < HALF, other=0.0).to(tl.float32) + offset
        w2 = tl.load(w_ptr + HALF + columns, mask=columns < HALF, other=0.0).to(tl.float32) + offset
        w1, w2 = w1[None, :], w2[None, :]
    if BACKWARD:
        d1 = tl.load(dy_ptr + dense + at, mask=inside, other=0.0).to(tl.float32)
        d2 = tl.load(dy_ptr + dense + at + HALF, mask=inside, other=0.0).to(tl.float32)
        out1, out2 = d1 * cos + d2 * sin, d2 * cos - d1 * sin
        if HAS_NORM:
            out1, out2 = out1 * w1, out2 * w2
            mean = tl.sum(out1 * first + out2 * second, axis=1)[:, None] / (2 * HALF)
            out1, out2 = rstd * (out1 - first * mean), rstd * (out2 - second * mean)
    else:
        if HAS_NORM:
            first, second = first * w1, second * w2
        out1, out2 = first * cos - second * sin, second * cos + first * sin
    tl.store(out_ptr + dense + at, out1, mask=inside)
    tl.store(out_ptr + dense + at + HALF, out2, mask=inside)


def rope_triton(
    x: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    norm: HeadNorm | None,
    dy: torch.Tensor | None = None,
) -> torch.Tensor:
    """The rotated heads, or with `dy` the gradient of x; dense `[B, T, heads, D]`."""
    batch, tokens, heads, width = x.shape
    if x.stride(3) != 1 or x.stride(2) != width or x.stride(0) != tokens * x.stride(1):
        x = x.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    cos, sin = (angle.contiguous() for angle in angles)
    weight, eps, offset = norm if norm is not None else (None, 0.0, 0.0)
    rope_kernel[(batch * tokens,)](
        x, cos, sin, weight, dy.contiguous() if dy is not None else None, out,
        x.stride(1), cos.shape[0] * cos.shape[1], eps, offset,
        HEADS=heads, HALF=width // 2, HAS_NORM=norm is not None, BACKWARD=dy is not None,
        HEAD_BLOCK=triton.next_power_of_2(heads), BLOCK=triton.next_power_of_2(width // 2),
        num_warps=4,
    )  # fmt: skip
    return out


def rope_plain(
    x: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    norm: HeadNorm | None,
    dy: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `rope_triton`, by PyTorch."""
    wide = x.to(accumulator(x))
    cos, sin = (angle[:, :, None].to(wide.dtype) for angle in angles)
    if dy is None:
        normal = wide if norm is None else forward_plain(wide, None, *norm)[0]
        return _turned(normal, cos, sin, 1.0).to(x.dtype)
    g = _turned(dy.to(wide.dtype), cos, sin, -1.0)
    if norm is not None:
        saved = wide, norm.weight, reciprocal_rms(wide, norm.eps)
        g = backward_plain(saved, g, None, norm.offset)
    return g.to(x.dtype)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, way: float) -> torch.Tensor:
    """The halves of heads turned by their angles, or back (`way` -1)."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-way)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=way)
    return out


def _run(
    x: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    norm: HeadNorm | None,
    dy: torch.Tensor | None = None,
) -> torch.Tensor:
    run = rope_triton if accelerated(x) else rope_plain
    return run(x, angles, norm, dy)


class _Rope(torch.autograd.Function):
    """Saves its input only where there is a normalisation to go back through."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, norm: HeadNorm | None
    ) -> torch.Tensor:
        ctx.norm = norm
        ctx.save_for_backward(cos, sin, x if norm is not None else None)
        return _run(x, (cos, sin), norm)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        cos, sin, x = ctx.saved_tensors
        dy = grads[0].contiguous()
        # Without a normalisation nothing of x is read; dy stands in for its shape.
        return _run(dy if x is None else x, (cos, sin), ctx.norm, dy), None, None, None
