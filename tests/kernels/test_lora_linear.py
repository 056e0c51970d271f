"""Linear layers with adapters, as on CUDA and as on a CPU: algebra in float64, stacks, peft."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from turnhalle.kernels import lora_linear as module
from turnhalle.kernels.lora_linear import Layer, lora_linear, lora_linear_reference
from turnhalle.kernels.nf4 import dequantize, packed

bnb = pytest.importorskip("bitsandbytes")  # a machine with a GPU may have none


@pytest.fixture(params=[True, False], ids=["cuda", "cpu"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How it is computed on a device; both run here."""
    monkeypatch.setattr(module, "accelerated", lambda _: request.param)


def layer(rows: int, columns: int, rank: int, seed: int, *, bias: bool = False) -> Layer:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = draw(rows, columns).float()
    base = packed(bnb.nn.Params4bit(weight, False, quant_type="nf4").to("cpu"))
    a = draw(rank, columns).requires_grad_(True)
    b = draw(rows, rank).requires_grad_(True)
    return Layer(base, a, b, 0.7 + seed, draw(rows) if bias else None)


STACKS = {
    "one": [(128, 64, 4)],
    "wide input": [(32, 192, 3)],  # base and adapter apart
    "q k v": [(128, 64, 4), (64, 64, 4), (64, 64, 2)],
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("keep_weights", [False, True])
def test_values_and_gradients_are_those_of_the_formula(
    stack: str, bias: bool, keep_weights: bool
) -> None:
    layers = [layer(*shape, seed, bias=bias) for seed, shape in enumerate(STACKS[stack])]
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(3, 5, layers[0].base.shape[1], generator=generator, dtype=torch.float64)
    x.requires_grad_(True)
    ours = lora_linear(x, layers, keep_weights=keep_weights)
    plain = lora_linear_reference(x, layers)
    upstream = [torch.randn(y.shape, generator=generator, dtype=torch.float64) for y in plain]
    leaves = [x, *(t for one in layers for t in (one.a, one.b))]
    a, b = (torch.autograd.grad(outputs, leaves, upstream) for outputs in (ours, plain))
    for one, two in zip((*ours, *a), (*plain, *b), strict=True):
        assert one.shape == two.shape
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("way")
def test_an_input_without_gradient_gets_none() -> None:
    one = layer(64, 64, 4, 0)
    (y,) = lora_linear(torch.randn(3, 64, dtype=torch.float64), [one])
    y.sum().backward()
    assert one.a.grad is not None
    assert one.b.grad is not None


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("keep_weights", "times"), [(False, 3), (True, 2)])
def test_a_checkpoint_shares_one_dequantisation_with_the_backward_pass(
    keep_weights: bool, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return dequantize(*arguments)

    monkeypatch.setattr(module, "dequantize", counted)
    one = layer(64, 64, 4, 0)
    x = torch.randn(3, 64, dtype=torch.float64, requires_grad=True)

    def block(x: torch.Tensor) -> torch.Tensor:
        return lora_linear(x, [one], keep_weights=keep_weights)[0].square()

    checkpoint(block, x, use_reentrant=False).sum().backward()
    assert len(calls) == times
    ours = x.grad
    x.grad = None
    lora_linear_reference(x, [one])[0].square().sum().backward()
    assert torch.allclose(ours, x.grad)


def test_a_base_in_floats_is_read_as_it_is() -> None:
    given = layer(32, 48, 4, 0, bias=True)
    base = torch.randn(32, 48, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    one = given._replace(base=base)
    x = torch.randn(7, 48, dtype=torch.float64, requires_grad=True)
    (ours,), (plain,) = lora_linear(x, [one]), lora_linear_reference(x, [one])
    assert torch.allclose(ours, plain, rtol=1e-10, atol=1e-10)
    leaves = [x, one.a, one.b]
    pairs = zip(
        torch.autograd.grad(ours.square().sum(), leaves),
        torch.autograd.grad(plain.square().sum(), leaves),
        strict=True,
    )
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in pairs)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_agrees_with_peft_on_bitsandbytes(dtype: torch.dtype) -> None:
    """Adapters in float32, as peft holds them; their gradients are float32 too."""
    import peft

    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = bnb.nn.Linear4bit(128, 64, bias=False, compute_dtype=dtype, quant_type="nf4")
        model = torch.nn.Sequential(base.to("cpu"))
        config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["0"], init_lora_weights=False)
        wrapped: Any = peft.get_peft_model(model, config).base_model.model[0]
        x = torch.randn(4, 128).to(dtype)
    a, b = (wrapped.lora_A["default"].weight, wrapped.lora_B["default"].weight)
    assert a.dtype == torch.float32
    theirs = wrapped(x)
    (ours,) = lora_linear(x, [Layer(packed(base.weight), a, b, wrapped.scaling["default"])])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (ours - theirs).norm() / theirs.norm() < tolerance
    pairs = zip(
        torch.autograd.grad(ours.float().square().sum(), (a, b)),
        torch.autograd.grad(theirs.float().square().sum(), (a, b)),
        strict=True,
    )
    for one, two in pairs:
        assert one.dtype == torch.float32
        assert (one - two).norm() / two.norm() < tolerance
