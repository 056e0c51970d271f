"""Linear layers with a frozen base and an adapter; several that read the same input at once.

    y_i  = x W_i^T + s_i (x A_i^T) B_i^T + bias_i
    dx   = sum_i dy_i W_i + s_i (dy_i B_i) A_i
    dA_i = s_i (dy_i B_i)^T x,   dB_i = dy_i^T (s_i x A_i^T),   no dW

Layers with the same input (q, k, v; gate, up) are stacked: one product, x read once.

On CUDA, 4-bit weights are dequantised into the left of a matrix `[N, K + r]` whose last columns
hold B: one product [x | s x A^T] [W | B]^T gives base and adapter, summed in float32 without a
merge, and dy [W | B] gives dy W and dy B. Apart, the adapter would read x once more and read and
write y. For 4,096 -> 14,336 and 8,192 tokens on an H200 that is 125 us beside a product of 1,218
us, and together 36 (arithmetic). Dequantising inside of the product would win at most 2.8 % there,
and lose cuBLAS.

On a CPU one product x [W | A]^T gives base and x A^T, and the few columns of an adapter are always
the rows of a product: B^T dy^T takes a quarter of the time of dy B, and (s x A^T)^T dy a fifth of
that of dy^T (s x A^T), which is what autograd does (1,404 tokens, 384 columns, rank 8; MKL, Zen 4).

Hu et al. 2021, arXiv 2106.09685; Dettmers et al. 2023, arXiv 2305.14314.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .accumulate import matmul
from .jit import accelerated, cdiv
from .nf4 import Packed, dequantize


class Layer(NamedTuple):
    """One layer: `base` `[N, K]`, `a` `[r, K]`, `b` `[N, r]`, and what the update is scaled by.

    A base in floats is for CPUs.
    """

    base: Packed | torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    scale: float
    bias: torch.Tensor | None = None


def lora_linear(
    x: torch.Tensor, layers: Sequence[Layer], *, keep_weights: bool = False
) -> tuple[torch.Tensor, ...]:
    """Outputs `[..., N_i]` of layers that read the same input.

    Args:
        x: `[..., K]`; its dtype is what is computed in. Adapters may be held in float32.
        layers: All with the same K.
        keep_weights: Save the dequantised weights for the backward pass. Right under activation
            checkpointing (torch drops them in the first forward pass, and the recomputed one comes
            just before the backward pass: two dequantisations a step instead of three), wrong
            without it (all layers would be held in 16 bits).
    """
    constants = tuple((layer.base, layer.scale, layer.bias) for layer in layers)
    adapters = [tensor for layer in layers for tensor in (layer.a, layer.b)]
    apply: Any = (_LoraLinear if accelerated(x) else _CpuLoraLinear).apply
    flat = x.reshape(-1, x.shape[-1])
    outputs = apply(flat, constants, keep_weights, *adapters)
    return tuple(y.view(*x.shape[:-1], y.shape[-1]) for y in outputs)


def lora_linear_reference(x: torch.Tensor, layers: Sequence[Layer]) -> tuple[torch.Tensor, ...]:
    """The formula, layer by layer, for autograd."""
    outputs = []
    for layer in layers:
        weight = _floats(layer.base, x.dtype)
        y = torch.nn.functional.linear(x, weight, layer.bias)
        a, b = layer.a.to(x.dtype), layer.b.to(x.dtype)
        outputs.append(y + layer.scale * (x @ a.T) @ b.T)
    return tuple(outputs)


def _floats(base: Packed | torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return base.to(dtype) if isinstance(base, torch.Tensor) else dequantize(base, dtype)


class _LoraLinear(torch.autograd.Function):
    """Saves the input and x A^T `[M, r]`; the weights only if asked to."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, constants: Any, keep_weights: bool, *adapters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        weights = _augmented(constants, adapters, x)
        reduced = _reduced(x, constants, adapters, weights.shape[1])
        width = x.shape[1]
        if _is_cheaper_together(x, weights):
            y = torch.cat([x, reduced], dim=1) @ weights.T
        else:
            y = torch.addmm(x @ weights[:, :width].T, reduced, weights[:, width:].T)
        ctx.constants = constants
        ctx.save_for_backward(x, reduced, weights if keep_weights else None, *adapters)
        outputs: tuple[torch.Tensor, ...] = y.split([c[0].shape[0] for c in constants], dim=1)
        for output, (_, _, bias) in zip(outputs, constants, strict=True):
            if bias is not None:
                output += bias
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, reduced, weights, *adapters = ctx.saved_tensors
        dy = grads[0] if len(grads) == 1 else torch.cat(grads, dim=1)
        if weights is None:
            weights = _augmented(ctx.constants, adapters, x)
        both = dy @ weights
        # Contiguous, and kept apart from the columns of the adapters.
        dx = both[:, : x.shape[1]].contiguous() if ctx.needs_input_grad[0] else None
        gradients: list[torch.Tensor | None] = []
        column = 0
        for (_, scale, _), a, grad in zip(ctx.constants, adapters[::2], grads, strict=True):
            columns = slice(column, column + len(a))
            dyb = both[:, x.shape[1] :][:, columns]
            if dx is not None:
                dx.addmm_(dyb, a.to(x.dtype), alpha=scale)
            da = matmul(dyb.T, x).mul_(scale).to(a.dtype)
            gradients += [da, matmul(grad.T, reduced[:, columns]).to(a.dtype)]
            column += len(a)
        return dx, None, None, *gradients


class _CpuLoraLinear(torch.autograd.Function):
    """Saves the input and s x A^T `[M, r]` of each layer; the weights only if asked to."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, constants: Any, keep_weights: bool, *adapters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        weights = [_floats(base, x.dtype) for base, _, _ in constants]
        narrow = [tensor.to(x.dtype) for tensor in adapters]
        both = x @ torch.cat([*weights, *narrow[::2]]).T
        heights = [len(weight) for weight in weights]
        y, reduced = both.split([sum(heights), both.shape[1] - sum(heights)], dim=1)
        outputs: tuple[torch.Tensor, ...] = y.split(heights, dim=1)
        columns = reduced.split([len(a) for a in narrow[::2]], dim=1)
        scaled = [part * scale for part, (_, scale, _) in zip(columns, constants, strict=True)]
        for output, part, b, (_, _, bias) in zip(
            outputs, scaled, narrow[1::2], constants, strict=True
        ):
            output.addmm_(part, b.T)
            if bias is not None:
                output += bias
        ctx.constants, ctx.num_layers = constants, len(weights)
        kept = weights if keep_weights else [None] * len(weights)
        ctx.save_for_backward(x, *scaled, *kept, *adapters)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        count = ctx.num_layers
        scaled, kept, adapters = rest[:count], rest[count : 2 * count], rest[2 * count :]
        dx = None
        gradients: list[torch.Tensor | None] = []
        for i, (dy, (base, scale, _)) in enumerate(zip(grads, ctx.constants, strict=True)):
            a, b = adapters[2 * i], adapters[2 * i + 1]
            dyb = (b.to(x.dtype).T @ dy.T).mul_(scale)
            if ctx.needs_input_grad[0]:
                weight = kept[i] if kept[i] is not None else _floats(base, x.dtype)
                dx = dy @ weight if dx is None else dx.addmm_(dy, weight)
                dx.addmm_(dyb.T, a.to(x.dtype))
            gradients += [matmul(dyb, x).to(a.dtype), matmul(scaled[i].T, dy).T.to(b.dtype)]
        return dx, None, None, *gradients


def _augmented(constants: Any, adapters: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """[W_i | 0 B_i 0] `[sum N, K + sum r]`, each layer's B in columns of its own."""
    rows = sum(base.shape[0] for base, _, _ in constants)
    width = x.shape[1]
    ranks = sum(len(a) for a in adapters[::2])
    # Rows of 16 bytes' multiple, which cuBLAS asks for.
    weights = x.new_empty(rows, cdiv(width + ranks, 8) * 8)
    weights[:, width:] = 0
    row, column = 0, width
    for (base, _, _), b in zip(constants, adapters[1::2], strict=True):
        part = weights[row : row + len(b)]
        dequantize(base, x.dtype, part[:, :width])
        part[:, column : column + b.shape[1]] = b
        row, column = row + len(b), column + b.shape[1]
    return weights


def _reduced(
    x: torch.Tensor, constants: Any, adapters: Sequence[torch.Tensor], width: int
) -> torch.Tensor:
    """s_i x A_i^T of all layers side by side, rounded once; zeros up to the given width."""
    reduced = x.new_zeros(len(x), width - x.shape[1])
    column = 0
    for (_, scale, _), a in zip(constants, adapters[::2], strict=True):
        out = reduced[:, column : column + len(a)]
        torch.addmm(out, x, a.to(x.dtype).T, beta=0, alpha=scale, out=out)
        column += len(a)
    return reduced


def _is_cheaper_together(x: torch.Tensor, weights: torch.Tensor) -> bool:
    """By bytes: a copy of x (4 M K) against x again and y twice more (2 M K + 4 M N)."""
    return x.shape[1] < 2 * len(weights)
