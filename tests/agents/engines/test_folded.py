"""Layers folded for sampling: they compute what they stand for, and never what they stood for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from turnhalle.agents.engines.folded import Folded, fold
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.kernels.adapter import adapter_of


def load(folder: Any, precision: str = "nf4", lora_seed: int | None = 0) -> Any:
    options = ModelOptions(name=str(folder), precision=precision, device="cpu")  # type: ignore[arg-type]
    lm = load_model(options, lora_seed=lora_seed)
    scramble(lm, 1)
    return lm


@torch.no_grad()
def scramble(lm: Any, seed: int) -> None:
    """A fresh adapter changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in lm.trainable().values():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def states(lm: Any) -> torch.Tensor:
    hidden: torch.Tensor = lm.hidden_states(torch.arange(3, 40)[None])
    return hidden


@pytest.mark.parametrize("precision", ["nf4", "fp4", "fp32"])
@pytest.mark.parametrize("lora_seed", [0, None])
@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "gemma3"])
def test_folded_layers_compute_what_they_are_made_of(
    make_model: Any, precision: str, lora_seed: int | None, architecture: str
) -> None:
    """With biases, too; without an adapter a base in floats has nothing to fold."""
    lm = load(make_model(architecture), precision, lora_seed)
    apart = states(lm)
    folded = Folded(lm)
    with folded.in_force():
        together = states(lm)
    assert (together - apart).norm() <= 1e-5 * apart.norm()
    assert torch.equal(states(lm), apart)
    is_mixed = lora_seed is not None or precision != "fp32"
    assert len(folded._layers) == (14 if is_mixed else 0)


def test_a_weight_that_changes_is_folded_anew(make_model: Any) -> None:
    lm = load(make_model())
    folded = Folded(lm)
    with folded.in_force():
        before = states(lm)
    optimizer = torch.optim.AdamW(list(lm.trainable().values()), lr=0.1)
    lm.hidden_states(torch.arange(3, 40)[None]).sum().backward()
    optimizer.step()
    apart = states(lm)
    with folded.in_force():
        after = states(lm)
    assert not torch.allclose(after, before, atol=1e-2)
    assert (after - apart).norm() <= 1e-5 * apart.norm()


@torch.no_grad()
def test_a_new_adapter_is_folded_however_its_numbers_got_there(make_model: Any) -> None:
    """A fused optimizer says nothing of what it changes."""
    lm = load(make_model())
    engine = TransformersEngine(lm)
    with engine._folded.in_force():
        before = states(lm)
    for parameter in lm.trainable().values():
        parameter.data = parameter.data + 0.1
    engine.load_adapter(1, lm.trainable())
    apart = states(lm)
    with engine._folded.in_force():
        after = states(lm)
    assert not torch.allclose(after, before, atol=1e-2)
    assert (after - apart).norm() <= 1e-5 * apart.norm()


def test_an_adapter_that_is_switched_off_is_not_in_it(make_model: Any) -> None:
    lm = load(make_model())
    folded = Folded(lm)
    with folded.in_force():
        adapted = states(lm)
    with lm.peft.disable_adapter():
        plain = states(lm)
        with folded.in_force():
            together = states(lm)
    assert (together - plain).norm() <= 1e-5 * plain.norm()
    assert not torch.allclose(together, adapted, atol=1e-2)


def test_the_base_keeps_its_bits_and_gradients_never_meet_a_folded_layer(make_model: Any) -> None:
    lm = load(make_model())
    bits = {name: p.detach().clone() for name, p in lm.model.named_parameters()}
    folded = Folded(lm)
    with pytest.raises(RuntimeError, match="stopped"), folded.in_force():
        raise RuntimeError("stopped")
    assert all(torch.equal(p, bits[name]) for name, p in lm.model.named_parameters())
    lm.hidden_states(torch.arange(3, 40)[None]).sum().backward()
    assert all(p.grad is not None for p in lm.trainable().values())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_base_in_sixteen_bits_loses_nothing_of_a_small_adapter(
    make_model: Any, precision: str
) -> None:
    """Rounded to 16 bits, W + s B A would be W where the adapter is small."""
    lm = load(make_model("qwen2"), precision)
    layer = lm.model.model.layers[0].self_attn.q_proj
    adapter = adapter_of(layer)
    assert adapter is not None
    with torch.no_grad():
        adapter.b.mul_(1e-3)
    forward = fold(layer)
    assert forward is not None
    weight, bias = (t.double() for t in (layer.base_layer.weight, layer.base_layer.bias))
    update = adapter.scale * adapter.b.double() @ adapter.a.double()
    x = torch.randn(8, weight.shape[1]).to(lm.model.dtype)
    y = forward(x)
    assert y.dtype == lm.model.dtype
    exact = torch.nn.functional.linear(x.double(), weight + update, bias)
    assert torch.allclose(y.double(), exact, rtol=2**-8, atol=1e-5)
    apart = states(lm)
    with Folded(lm).in_force():
        assert (states(lm) - apart).norm() <= 0.02 * apart.norm()
