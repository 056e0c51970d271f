"""Loading models: what works, and what is refused before anything long starts."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents.models import (
    ModelOptions,
    load_model,
    load_tokenizer,
    read_settings,
    require_packages,
)
from turnhalle.envs.errors import ConfigError, ModelError


def load(name: Path | str, precision: str = "fp32", **rest: Any) -> Any:
    options = ModelOptions(name=str(name), precision=precision, device="cpu")  # type: ignore[arg-type]
    return load_model(options, **rest)


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma", "gemma3", "mistral"])
@pytest.mark.parametrize("precision", ["fp32", "nf4", "fp4", "int8", "bf16"])
def test_any_architecture_loads_in_any_precision(
    make_model: Any, architecture: str, precision: str
) -> None:
    lm = load(make_model(architecture), precision, lora_seed=0)
    hidden = lm.hidden_states(torch.arange(12)[None])
    assert lm.head(hidden).shape == (1, 12, lm.config.vocab_size)
    quantised = [m for m in lm.model.modules() if type(m).__name__ == "Linear4bit"]
    assert bool(quantised) is (precision in ("nf4", "fp4"))
    eighths = [m for m in lm.model.modules() if type(m).__name__ == "Linear8bitLt"]
    assert bool(eighths) is (precision == "int8")
    assert all(m.weight.quant_state.nested for m in quantised)
    trained = lm.trainable()
    assert trained
    assert all("lora_" in name for name in trained)


def test_a_fresh_adapter_changes_nothing_and_follows_its_seed(make_model: Any) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    plain, adapted = load(make_model()), load(make_model(), lora_seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    ids = torch.arange(12)[None]
    assert torch.equal(plain.hidden_states(ids), adapted.hidden_states(ids))
    again, other = load(make_model(), lora_seed=1), load(make_model(), lora_seed=2)
    first = next(iter(adapted.trainable()))
    assert torch.equal(adapted.trainable()[first], again.trainable()[first])
    assert not torch.equal(adapted.trainable()[first], other.trainable()[first])


def test_names_that_are_no_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty is no model folder: it has no config.json"):
        load(tmp_path / "empty")
    with pytest.raises(ModelError, match="give a folder, a Hugging Face name"):
        load(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="'tinny'"):
        load("tinny")


def test_an_unreachable_hub_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="cannot read the model 'nobody/nothing'"):
        load("nobody/nothing")


def test_a_config_of_no_known_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "elephant"}', encoding="utf-8")
    with pytest.raises(ModelError, match="cannot read the model"):
        load(tmp_path)


def test_a_model_that_is_no_language_model_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'vit' model, no causal language model"):
        load(tmp_path)


def test_a_folder_without_tokenizer_is_refused(make_model: Any, tmp_path: Path) -> None:
    folder = copy(make_model(), tmp_path)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="cannot read the tokenizer"):
        load_tokenizer(str(folder))


def test_a_tokenizer_of_another_model_is_refused(make_model: Any, tmp_path: Path) -> None:
    folder = copy(make_model(), tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vocab_size"] = 100
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="the tokenizer knows 259 tokens, the model 100"):
        load_tokenizer(str(folder))


def test_cuda_without_cuda_is_refused(make_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="PyTorch sees no CUDA device"):
        load_model(ModelOptions(name=str(make_model()), device="cuda"))
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        load_model(ModelOptions(name=str(make_model()), device="gpu"))


@pytest.mark.parametrize("missing", ["bitsandbytes", "torch"])
def test_missing_packages_are_named_with_the_remedy(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(ConfigError, match=f"missing package: {missing}") as caught:
        require_packages("nf4")
    assert 'pip install "turnhalle[train]"' in str(caught.value)
    assert ("fp32" in str(caught.value)) is (missing == "bitsandbytes")


def test_an_architecture_with_unknown_logits_is_refused(tmp_path: Path, make_model: Any) -> None:
    import transformers

    config = transformers.GraniteConfig(
        vocab_size=260,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        logits_scaling=8.0,
    )
    folder = copy(make_model(), tmp_path)
    (folder / "model.safetensors").unlink()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(ModelError, match="computes its logits in a way"):
        load(folder)


def test_layers_of_unknown_kinds_are_refused(make_model: Any) -> None:
    from turnhalle.agents.lm import LanguageModel

    lm = load(make_model())
    lm.model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(ModelError, match="linear_attention"):
        LanguageModel(lm.model)


def test_settings_are_read_from_the_model_s_folder(tmp_path: Path, make_model: Any) -> None:
    assert read_settings("tiny") == {"system_prompt": "", "tool_format": "compact"}
    assert read_settings(str(make_model())) == {}


def test_gradient_checkpointing_gives_the_same_gradients(make_model: Any) -> None:
    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        options = ModelOptions(
            name=str(make_model()),
            precision="nf4",
            device="cpu",
            gradient_checkpointing=checkpointing,
        )
        lm = load_model(options, lora_seed=0)
        lm.head(lm.hidden_states(torch.arange(3, 40)[None])).square().mean().backward()
        return [p.grad for p in lm.trainable().values() if p.grad is not None]

    plain, checkpointed = gradients(False), gradients(True)
    assert len(plain) == len(checkpointed) > 0
    for a, b in zip(plain, checkpointed, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7)
