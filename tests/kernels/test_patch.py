"""Kernels in transformers models: what is replaced, that nothing changes, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from turnhalle import kernels
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.kernels import patch
from turnhalle.kernels.swiglu import swiglu

ARCHITECTURES = ["qwen3", "llama", "gemma", "gemma3", "mistral"]


def load(folder: Any, precision: str = "fp32", lora_seed: int | None = 0, **extra: Any) -> Any:
    held = {"kernels": "off", "precision": precision, "device": "cpu"} | extra
    options = ModelOptions(name=str(folder), **held)
    lm = load_model(options, lora_seed=lora_seed)
    for name, parameter in lm.trainable().items():
        if "lora_B" in name:  # a fresh adapter changes nothing
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(1))
    return lm


def run(lm: Any) -> list[torch.Tensor]:
    """Logits of a batch, and the gradients of the adapter."""
    ids = torch.randint(3, 250, (2, 30), generator=torch.Generator().manual_seed(0))
    logits = lm.head(lm.hidden_states(ids))
    loss = logits.log_softmax(-1)[..., 7].sum()
    gradients = torch.autograd.grad(loss, list(lm.trainable().values()))
    return [logits.detach(), *gradients]


@pytest.mark.parametrize("precision", ["fp32", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_outputs_and_gradients_stay_within_1e_5(
    make_model: Any, architecture: str, precision: str
) -> None:
    lm = load(make_model(architecture), precision)
    plain = run(lm)
    patched = kernels.apply(lm.model)
    norms = {"gemma3": 9}.get(architecture, 5)
    layers = {} if architecture == "gemma3" else {"residual sum": 2}
    assert patched.replaced == {"attention": 2, "MLP": 2, "norm": norms, **layers}
    assert not patched.left
    for ours, theirs in zip(run(lm), plain, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
    patched.undo()
    assert all(torch.equal(a, b) for a, b in zip(run(lm), plain, strict=True))
    assert not any("forward" in vars(m) for m in lm.model.modules())


def test_four_bit_layers_go_through_the_op_three_products_a_layer_of_seven(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    original = patch.lora_linear

    def counted(x: Any, layers: Any, **kwargs: Any) -> Any:
        sizes.append(len(layers))
        return original(x, layers, **kwargs)

    monkeypatch.setattr(patch, "lora_linear", counted)
    lm = load(make_model(), "nf4")
    kernels.apply(lm.model, check=False)
    run(lm)
    assert sizes == [3, 1, 2, 1] * 2
    with torch.no_grad():
        lm.hidden_states(torch.arange(3, 9)[None])
    assert len(sizes) == 8


def test_checkpointed_gradients_are_the_same(make_model: Any) -> None:
    plain = run(load(make_model(), "nf4"))
    lm = load(make_model(), "nf4", gradient_checkpointing=True)
    kernels.apply(lm.model)
    for ours, theirs in zip(run(lm), plain, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_an_adapter_that_is_switched_off_is_off(make_model: Any) -> None:
    lm = load(make_model(), "nf4")
    ids = torch.arange(3, 40)[None]
    with lm.peft.disable_adapter():
        plain = lm.hidden_states(ids)
        kernels.apply(lm.model)
        ours = lm.hidden_states(ids)
    assert torch.allclose(ours, plain, atol=1e-4)
    assert not torch.allclose(lm.hidden_states(ids), plain, atol=1e-2)


def test_the_engine_plays_the_same_with_a_cache(make_model: Any) -> None:
    lm = load(make_model("mistral"))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        plain = lm.model(input_ids=ids, use_cache=True)
        kernels.apply(lm.model)
        first = lm.model(input_ids=ids[:, :20], use_cache=True)
        rest = lm.model(input_ids=ids[:, 20:], past_key_values=first.past_key_values)
    assert torch.allclose(rest.logits, plain.logits[:, 20:], atol=1e-3)


def test_other_models_of_the_class_are_untouched(make_model: Any) -> None:
    one, other = load(make_model()), load(make_model())
    kernels.apply(one.model)
    assert not any("forward" in vars(m) for m in other.model.modules())


def test_norms_that_learn_are_left_alone_and_said_so(make_model: Any) -> None:
    lm = load(make_model())
    lm.model.get_decoder().norm.weight.requires_grad_(True)
    lm.model.get_decoder().layers[0].self_attn.k_norm.weight.requires_grad_(True)
    patched = kernels.apply(lm.model)
    assert sorted(patched.left) == ["model.layers.0.self_attn", "model.norm"]
    assert patched.replaced["attention"] == 1
    assert "its weight learns" in str(patched)
    assert "2 x MLP" in str(patched)


def test_unknown_architectures_and_a_second_patch_are_refused(make_model: Any) -> None:
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=20)
    with pytest.raises(ValueError, match="no kernels for 'gpt2'; known are gemma"):
        kernels.apply(transformers.GPT2LMHeadModel(config))
    lm = load(make_model())
    kernels.apply(lm.model)
    with pytest.raises(ValueError, match="replaced already"):
        kernels.apply(lm.model)


def test_a_wrong_kernel_is_found_and_nothing_stays(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = load(make_model())

    monkeypatch.setattr(patch, "swiglu", lambda gate, up, act: swiglu(up, gate, act))
    with pytest.raises(RuntimeError, match="kernels change the model's logits"):
        kernels.apply(lm.model)
    assert not any("forward" in vars(m) for m in lm.model.modules())


def test_the_option_puts_kernels_in_and_auto_does_where_they_are_known(make_model: Any) -> None:
    def patched(choice: str, architecture: str = "qwen3") -> bool:
        lm = load(make_model(architecture), kernels=choice)
        return any("forward" in vars(m) for m in lm.model.modules())

    assert [patched(choice) for choice in ("on", "auto", "off")] == [True, True, False]
    assert not patched("auto", "qwen2")
