"""The gate of an MLP: act(gate) * up, with act SiLU (Llama, Qwen, Mistral) or GELU (Gemma).

    silu(g) = g s,  s = sigmoid(g),               silu'(g) = s (1 + g (1 - s))
    gelu(g) = g t,  t = sigmoid(2 k (g + c g^3)), gelu'(g) = t + 2 k g t (1 - t) (1 + 3 c g^2)

GELU is the tanh form, k = sqrt(2 / pi), c = 0.044715, as (1 + tanh z) / 2 = sigmoid(2 z). Computed
in float32, rounded once. 6 M I bytes forward and 10 back: the activation is computed again, not
saved, and the gradients take the memory of gate and up, so a second backward pass is refused.

Shazeer 2020, arXiv 2002.05202.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs
# ruff: noqa: N803

from __future__ import annotations

from typing import Any, Literal

import torch

from .accumulate import accumulator
from .jit import accelerated, cdiv, jit, tl

Activation = Literal["silu", "gelu_tanh"]

BLOCK = 1024
"""Values of one program: 8 a thread."""


def swiglu(gate: torch.Tensor, up: torch.Tensor, activation: Activation = "silu") -> torch.Tensor:
    """act(gate) * up.

    Args:
        gate: `[..., I]`; with `up` it may be two halves of one matrix.
        up: `[..., I]`.
        activation: "silu" or "gelu_tanh".
    """
    if not accelerated(gate):
        return swiglu_reference(gate, up, activation)
    apply: Any = _SwiGlu.apply
    return apply(gate, up, activation)  # type: ignore[no-any-return]


def swiglu_reference(gate: torch.Tensor, up: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Plain PyTorch, any device, gradients by autograd."""
    wide = gate.to(accumulator(gate))
    if activation == "silu":
        active = torch.nn.functional.silu(wide)
    else:
        active = torch.nn.functional.gelu(wide, approximate="tanh")
    return (active * up.to(wide.dtype)).to(gate.dtype)


@jit()
def _activate(g, IS_GELU: tl.constexpr):
    """The activation and its derivative."""
    if IS_GELU:
        share = tl.sigmoid(1.5957691216057308 * (g + 0.044715 * g * g * g))
        inner = 1.5957691216057308 * (1.0 + 0.134145 * g * g)
        return g * share, share + g * share * (1.0 - share) * inner
    share = tl.sigmoid(g)
    return g * share, share * (1.0 + g * (1.0 - share))


@jit()
def forward_kernel(
    gate_ptr, up_ptr, out_ptr, gate_stride, up_stride,
    WIDTH: tl.constexpr, IS_GELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK columns of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < WIDTH
    gate = tl.load(gate_ptr + row * gate_stride + columns, mask=inside).to(tl.float32)
    up = tl.load(up_ptr + row * up_stride + columns, mask=inside).to(tl.float32)
    active, _ = _activate(gate, IS_GELU)
    tl.store(out_ptr + row * WIDTH + columns, active * up, mask=inside)


@jit()
def backward_kernel(
    gate_ptr, up_ptr, dout_ptr, gate_stride, up_stride,
    WIDTH: tl.constexpr, IS_GELU: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK columns of one row; the gradients replace gate and up."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < WIDTH
    gate_at, up_at = gate_ptr + row * gate_stride + columns, up_ptr + row * up_stride + columns
    gate = tl.load(gate_at, mask=inside).to(tl.float32)
    up = tl.load(up_at, mask=inside).to(tl.float32)
    dout = tl.load(dout_ptr + row * WIDTH + columns, mask=inside).to(tl.float32)
    active, slope = _activate(gate, IS_GELU)
    tl.store(gate_at, dout * up * slope, mask=inside)
    tl.store(up_at, dout * active, mask=inside)


def _rows(tensor: torch.Tensor) -> torch.Tensor:
    """`[M, I]` with adjacent columns; a copy only where the axes before cannot be joined."""
    flat = tensor.reshape(-1, tensor.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()


def forward_triton(gate: torch.Tensor, up: torch.Tensor, activation: Activation) -> torch.Tensor:
    """`[M, I]` from rows that may be apart."""
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    forward_kernel[(len(gate), cdiv(gate.shape[1], BLOCK))](
        gate, up, out, gate.stride(0), up.stride(0),
        WIDTH=gate.shape[1], IS_GELU=activation == "gelu_tanh", BLOCK=BLOCK,
    )  # fmt: skip
    return out


def backward_triton(
    gate: torch.Tensor, up: torch.Tensor, dout: torch.Tensor, activation: Activation
) -> None:
    """Put the gradients of `[M, I]` gate and up in their place."""
    backward_kernel[(len(gate), cdiv(gate.shape[1], BLOCK))](
        gate, up, dout.contiguous(), gate.stride(0), up.stride(0),
        WIDTH=gate.shape[1], IS_GELU=activation == "gelu_tanh", BLOCK=BLOCK,
    )  # fmt: skip


class _SwiGlu(torch.autograd.Function):
    """Saves gate and up, and overwrites them."""

    @staticmethod
    def forward(
        ctx: Any, gate: torch.Tensor, up: torch.Tensor, activation: Activation
    ) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation, ctx.is_used = activation, False
        return forward_triton(_rows(gate), _rows(up), activation).view(gate.shape)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        if ctx.is_used:
            raise RuntimeError("swiglu's backward pass overwrites its inputs: it runs once only")
        ctx.is_used = True
        gate, up = ctx.saved_tensors
        rows = _rows(gate), _rows(up)
        backward_triton(*rows, _rows(grads[0]), ctx.activation)
        return rows[0].view(gate.shape), rows[1].view(up.shape), None
