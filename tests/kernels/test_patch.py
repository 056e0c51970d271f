"""Kernels in transformers models: what is replaced, that nothing changes, and the way back."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch

from turnhalle import kernels
from turnhalle.agents import acceleration
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import ModelError
from turnhalle.kernels import patch
from turnhalle.kernels.probe import probe
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


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of layers of each call of the op."""
    sizes = []
    original = patch.lora_linear

    def count(x: Any, layers: Any, **kwargs: Any) -> Any:
        sizes.append(len(layers))
        return original(x, layers, **kwargs)

    monkeypatch.setattr(patch, "lora_linear", count)
    return sizes


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


MIXTURE = {"attention": 2, "norm": 5, "residual sum": 2}


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern:RuntimeWarning")
@pytest.mark.parametrize(
    ("architecture", "replaced", "left"),
    [
        ("qwen2", MIXTURE | {"MLP": 2}, ""),
        ("smollm3", MIXTURE | {"MLP": 2}, ""),
        ("phi3", {"norm": 5}, "left 2 x self_attn (Phi3Attention is not known), left 2 x mlp (Phi"),
        ("qwen3_moe", MIXTURE, "left 2 x mlp (Qwen3MoeSparseMoeBlock is not known)"),
        ("mixtral", MIXTURE, "left 2 x mlp (MixtralSparseMoeBlock is not known)"),
    ],
)
def test_what_is_not_known_of_an_architecture_is_left_and_named(
    make_model: Any, architecture: str, replaced: dict[str, int], left: str
) -> None:
    """Biases of q, k and v; layers without positions; fused projections; experts."""
    lm = load(make_model(architecture), "nf4")
    plain = run(lm)
    patched = kernels.apply(lm.model)
    assert patched.replaced == replaced
    assert left in str(patched)
    assert bool(patched.left) == bool(left)
    for ours, theirs in zip(run(lm), plain, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def wrapped(folder: Any, **lora: Any) -> Any:
    """A model in NF4 with an adapter of another kind than ours."""
    lm = load(folder, "nf4", lora_seed=None)
    with_adapter(lm, **lora)
    return lm


def with_adapter(lm: Any, **lora: Any) -> None:
    import peft

    given = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | lora
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's advice on what cannot be merged
        torch.manual_seed(0)
        lm.peft = peft.get_peft_model(lm.model, peft.LoraConfig(**given))
        for name, parameter in lm.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    lm.model.eval()


@pytest.mark.parametrize(
    ("lora", "stacks"),
    [
        ({"use_rslora": True}, [3, 1, 2, 1] * 2),
        ({"rank_pattern": {"q_proj": 2, "up_proj": 7}}, [3, 1, 2, 1] * 2),
        ({"target_modules": ["q_proj", "v_proj"]}, [2, 2]),
        ({"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [1]}, [1, 1]),
        ({"bias": "lora_only"}, [1, 2, 1] * 2),  # q, k and v have biases, which learn
        ({"lora_bias": True}, []),
        ({"use_dora": True}, []),
        ({"lora_dropout": 0.2}, []),
    ],
)
def test_adapters_of_every_kind_compute_what_they_did(
    make_model: Any, lora: dict[str, Any], stacks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the op does not describe are left to peft, a layer at a time."""
    sizes = counted(monkeypatch)
    lm = wrapped(make_model("qwen2"), **lora)
    plain = run(lm)
    kernels.apply(lm.model, check=False)
    ours = run(lm)
    assert sizes == stacks
    assert len(ours) == len(plain)
    for one, two in zip(ours, plain, strict=True):
        assert (one - two).norm() <= 1e-5 * two.norm()


def test_an_adapter_that_comes_after_the_kernels_is_not_ignored(make_model: Any) -> None:
    lm, other = (load(make_model(), "nf4", lora_seed=None) for _ in range(2))
    kernels.apply(lm.model)
    for each in (lm, other):
        with_adapter(each)
    for ours, theirs in zip(run(lm), run(other), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


def test_gradients_that_overflow_float16_are_compared_at_a_smaller_loss(make_model: Any) -> None:
    lm = load(make_model("llama"), "fp16")
    before = probe(lm.model)
    assert before.scale < 1 / 64
    assert before.gradient.isfinite().all()
    patched = kernels.apply(lm.model)
    assert patched.replaced["attention"] == 2
    patched.undo()
    lm.model.get_output_embeddings().weight.data *= 1000
    with pytest.raises(RuntimeError, match=r"own gradients overflow torch.float16"):
        kernels.apply(lm.model)


def test_four_bit_layers_go_through_the_op_three_products_a_layer_of_seven(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = counted(monkeypatch)
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

    def unfitting(*_: Any) -> None:
        raise TypeError("forward() got an unexpected argument")

    monkeypatch.setattr(patch, "rope", unfitting)
    with pytest.raises(ModelError, match=r"do not fit.*unexpected argument.*model.kernels="):
        load(make_model(), kernels="on")
    with pytest.raises(RuntimeError, match="nothing was replaced"):
        kernels.apply(lm.model)
    assert not any("forward" in vars(m) for m in lm.model.modules())


def test_a_copy_of_a_patched_model_computes_with_its_own_weights(make_model: Any) -> None:
    lm = load(make_model(), "nf4")
    kernels.apply(lm.model)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        other = copy.deepcopy(lm.model)
        plain = lm.model(input_ids=ids).logits
        assert torch.equal(other(input_ids=ids).logits, plain)
        assert torch.equal(lm.model(input_ids=ids).logits, plain)


def test_the_option_puts_kernels_in_and_auto_does_where_they_are_known(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patched(choice: str) -> bool:
        return any("forward" in vars(m) for m in load(make_model(), kernels=choice).model.modules())

    assert [patched(choice) for choice in ("on", "auto", "off")] == [True, True, False]
    monkeypatch.setattr(acceleration, "ARCHITECTURES", ("llama",))
    assert not patched("auto")
