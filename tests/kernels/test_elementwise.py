"""Norms, rotary positions and gates against float64 autograd: kernels, and what CPUs compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from turnhalle.kernels import rms_norm as norms
from turnhalle.kernels import rope as ropes
from turnhalle.kernels import swiglu as gates
from turnhalle.kernels.rope import HeadNorm

DTYPES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float16, 2e-3)], ids=["fp32", "fp16"]
)


@pytest.fixture(autouse=True, params=[True, False], ids=["kernel", "cpu"])
def kernels_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With kernels these are interpreted, on CPU tensors."""
    for module in (norms, ropes, gates):
        monkeypatch.setattr(module, "accelerated", lambda _: request.param)


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def compare(ours: Any, exact: Any, inputs: list[torch.Tensor], tolerance: float) -> None:
    """Outputs and gradients of `ours(*inputs)` against `exact(*inputs in float64)`."""
    wide = [t.double().requires_grad_(True) for t in inputs]
    own = [t.clone().requires_grad_(True) for t in inputs]
    a, b = ours(*own), exact(*wide)
    a, b = (x if isinstance(x, tuple) else (x,) for x in (a, b))
    upstream = [draw(*y.shape, dtype=inputs[0].dtype, seed=i) for i, y in enumerate(a)]
    # Close to each value, since the kernels may overwrite their inputs.
    results = [y.detach().clone() for y in a]
    grads_a = torch.autograd.grad(a, own, upstream)
    grads_b = torch.autograd.grad(b, wide, [u.double() for u in upstream])
    for one, two in zip((*results, *grads_a), (*b, *grads_b), strict=True):
        assert one.dtype == inputs[0].dtype
        assert (one.double() - two).norm() / two.norm() < tolerance


@DTYPES
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("width", [64, 100])
def test_rms_norm(dtype: torch.dtype, tolerance: float, offset: float, width: int) -> None:
    weight = draw(width, seed=5)
    compare(
        lambda x: norms.rms_norm(x, weight.to(dtype), 1e-6, offset),
        lambda x: norms.rms_norm_reference(x, None, weight.to(dtype), 1e-6, offset)[0],
        [draw(2, 3, width, dtype=dtype)],
        tolerance,
    )


@DTYPES
def test_the_residual_sum_before_rms_norm(dtype: torch.dtype, tolerance: float) -> None:
    weight = draw(100, seed=5).to(dtype)
    compare(
        lambda x, r: norms.add_rms_norm(x, r, weight, 1e-5),
        lambda x, r: norms.rms_norm_reference(x, r, weight, 1e-5, 0.0),
        [draw(5, 100, dtype=dtype), draw(5, 100, dtype=dtype, seed=1)],
        tolerance,
    )


@DTYPES
@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize("shared_angles", [False, True])
def test_rope(dtype: torch.dtype, tolerance: float, has_norm: bool, shared_angles: bool) -> None:
    """Three heads of 12: nothing is a power of two."""
    norm = HeadNorm(draw(12, seed=7).to(dtype), 1e-6, 1.0) if has_norm else None
    angles = draw(1 if shared_angles else 2, 5, 6).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    compare(
        lambda x: ropes.rope(x, cos, sin, norm),
        lambda x: ropes.rope_reference(x, cos.double(), sin.double(), norm),
        [draw(2, 5, 3, 12, dtype=dtype)],
        tolerance,
    )


def test_rope_reads_heads_out_of_a_wider_matrix() -> None:
    """As it gets them from stacked q, k and v."""
    wide = draw(2, 5, 100, dtype=torch.float32)
    heads = wide[..., 20:56].view(2, 5, 3, 12)
    angles = draw(2, 5, 6).repeat(1, 1, 2).float()
    ours = ropes.rope(heads, angles.cos(), angles.sin())
    plain = ropes.rope_reference(heads.contiguous(), angles.cos(), angles.sin(), None)
    assert not heads.is_contiguous()
    assert torch.allclose(ours, plain, atol=1e-6)


@DTYPES
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_swiglu(dtype: torch.dtype, tolerance: float, activation: Any) -> None:
    """1,100 columns: one program full, one not."""
    compare(
        lambda g, u: gates.swiglu(g, u, activation),
        lambda g, u: gates.swiglu_reference(g, u, activation),
        [draw(2, 3, 1100, dtype=dtype) * 2, draw(2, 3, 1100, dtype=dtype, seed=1)],
        tolerance,
    )


def test_swiglu_takes_two_halves_of_one_matrix_and_writes_its_gradients_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "accelerated", lambda _: True)
    both = draw(4, 80, dtype=torch.float32)
    leaf = both.clone().requires_grad_(True)
    gate, up = (leaf * 1).split(40, dim=1)
    where = gate.data_ptr()
    plain = gates.swiglu_reference(*both.split(40, dim=1), "silu")
    ours = gates.swiglu(gate, up)
    assert torch.allclose(ours, plain, atol=1e-6)
    dgate, _ = torch.autograd.grad(ours.sum(), (gate, up), retain_graph=True)
    assert dgate.data_ptr() == where
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(ours.sum(), (gate, up))


def test_without_gradients_the_values_are_the_same() -> None:
    x, weight = draw(5, 12), draw(12, seed=5)
    angles = draw(1, 5, 6).repeat(1, 1, 2)
    norm = HeadNorm(weight, 1e-6, 1.0)

    def values() -> list[torch.Tensor]:
        turned = ropes.rope(x.view(1, 5, 1, 12), angles.cos(), angles.sin(), norm)
        return [*norms.add_rms_norm(x, 2 * x, weight, 1e-5, 1.0), turned]

    with torch.no_grad():
        plain = values()
    assert all(torch.equal(a, b) for a, b in zip(values(), plain, strict=True))


def test_weights_that_learn_get_their_gradients() -> None:
    angles = draw(1, 2, 4).repeat(1, 1, 2)
    weight = draw(8, seed=1).requires_grad_(True)
    x = draw(1, 2, 1, 8).requires_grad_(True)
    for ours, plain in (
        (norms.rms_norm(x, weight, 1e-6), norms.rms_norm_reference(x, None, weight, 1e-6, 0.0)[0]),
        (
            ropes.rope(x, angles.cos(), angles.sin(), HeadNorm(weight, 1e-6)),
            ropes.rope_reference(x, angles.cos(), angles.sin(), HeadNorm(weight, 1e-6)),
        ),
    ):
        pairs = zip(
            torch.autograd.grad(ours.square().sum() + ours.sum(), (x, weight)),
            torch.autograd.grad(plain.square().sum() + plain.sum(), (x, weight)),
            strict=True,
        )
        assert all(torch.allclose(a, b) for a, b in pairs)
