"""Folders in few bits: the same bits for everybody, from then on."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file

from turnhalle.agents import adapters
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model, read_settings
from turnhalle.agents.quantization.folder import write_folder
from turnhalle.envs.errors import ModelError, StoreError


def load(folder: Path | str, precision: str = "auto", **rest: Any) -> LanguageModel:
    options = ModelOptions(name=str(folder), precision=precision, device="cpu", lora_rank=4)  # type: ignore[arg-type]
    return load_model(options, **rest)


def logits(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.head(lm.hidden_states(torch.arange(3, 60)[None]))


def kinds(lm: LanguageModel) -> dict[str, str]:
    """Class of each linear layer, without an adapter's name."""
    layers = lm.model.named_modules()
    return {name: type(m).__name__ for name, m in layers if isinstance(m, torch.nn.Linear)}


def base(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """Everything that is not the adapter, bit for bit: values, scales, levels."""
    return {n: t.clone() for n, t in lm.model.state_dict().items() if ".lora_" not in n}


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("format", ["nf4", "fp4", "int8"])
def test_a_folder_is_loaded_bit_for_bit_and_written_again_the_same(
    make_model: Any, tmp_path: Path, architecture: str, format: str
) -> None:
    for name in ("a", "b"):
        write_folder(str(make_model(architecture)), tmp_path / name, format)  # type: ignore[arg-type]
    lm = load(tmp_path / "a")
    layer = {"int8": "Linear8bitLt"}.get(format, "Linear4bit")
    assert sorted(kinds(lm).values()) == ["Linear", *[layer] * 14]
    logits(lm)  # an evaluation must not change what is held
    stored, held = load_file(tmp_path / "a" / "model.safetensors"), base(lm)
    assert stored.keys() <= held.keys()
    assert held.keys() - stored.keys() <= {"lm_head.weight"}  # tied, so stored once
    for name, tensor in stored.items():
        if ".quant_state." not in name:  # says what to compute in, which is ours to choose
            assert torch.equal(held[name], tensor.to(held[name].dtype)), name
    again = (tmp_path / "b" / "model.safetensors").read_bytes()
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == again


def test_the_folder_is_what_quantising_on_load_gives(make_model: Any, tmp_path: Path) -> None:
    source = tmp_path / "half"
    shutil.copytree(make_model("llama"), source)
    load(make_model("llama"), "bf16").model.save_pretrained(source)
    write_folder(str(source), tmp_path / "small", "nf4")
    assert torch.equal(logits(load(tmp_path / "small")), logits(load(source, "nf4")))


def test_every_pass_computes_with_the_same_weights(make_model: Any, tmp_path: Path) -> None:
    """bitsandbytes would round them to the folder's 16 bits in the backward pass alone."""
    from turnhalle.agents.engines.export import write_base

    write_folder(str(make_model("llama")), tmp_path / "small", "nf4")
    lm, served = load(tmp_path / "small"), load(make_model("llama"), "fp32")
    (tmp_path / "plain").mkdir()
    write_base(lm, tmp_path / "plain")
    given = load_file(tmp_path / "plain" / "model-00000.safetensors")  # what vLLM is given
    assert not served.model.load_state_dict(given, strict=False).unexpected_keys
    assert torch.allclose(logits(served), logits(lm), atol=1e-4)
    gradients = []
    for model in (lm.model, served.model):
        embedded = model.get_input_embeddings()(torch.arange(3, 60)[None]).detach().requires_grad_()
        output = model(inputs_embeds=embedded).logits.log_softmax(-1)[..., 5].sum()
        gradients.append(torch.autograd.grad(output, embedded)[0])
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def test_what_the_plan_keeps_stays_in_16_bits_and_nothing_else(
    make_model: Any, tmp_path: Path
) -> None:
    source = tmp_path / "deep"
    shutil.copytree(make_model("llama"), source)
    config = json.loads((source / "config.json").read_text())
    from transformers import AutoConfig, AutoModelForCausalLM

    deep = AutoConfig.from_pretrained(source, num_hidden_layers=12)
    AutoModelForCausalLM.from_config(deep).save_pretrained(source)
    assert config["num_hidden_layers"] == 2
    # Layer 1 is a prefix of 10 and 11: a careless match would keep those too.
    kept = ["model.layers.1.mlp.down_proj", "model.layers.1.mlp.gate_up_proj"]
    write_folder(str(source), tmp_path / "small", "nf4", kept)
    lm = load(tmp_path / "small")
    plain = [name for name, kind in kinds(lm).items() if kind == "Linear"]
    assert plain == ["model.layers.1.mlp.down_proj", "lm_head"]
    stored = load_file(tmp_path / "small" / "model.safetensors")
    assert stored["model.layers.1.mlp.down_proj.weight"].dtype == torch.bfloat16
    written = json.loads((tmp_path / "small" / "config.json").read_text())
    assert written["quantization_config"]["llm_int8_skip_modules"] == ["lm_head", *kept]
    # peft and transformers alone read the same plan.
    import peft

    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "small", device_map={"": "cpu"})
    wrapped = peft.get_peft_model(theirs, peft.LoraConfig(target_modules="all-linear", r=2))
    adapted = [(n, m) for n, m in wrapped.named_modules() if hasattr(m, "base_layer")]
    plain = [name for name, m in adapted if type(m.base_layer) is torch.nn.Linear]
    assert len(adapted) == 7 * 12
    assert plain == [f"base_model.model.{kept[0]}"]


def test_layers_that_a_cpu_gets_wrong_are_never_written_in_4_bits(
    make_model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(str(make_model(hidden=96)), tmp_path / "small", "nf4")
    lm = load(tmp_path / "small")
    assert not caplog.records  # the folder says which
    layers = [m for m in lm.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert layers
    assert all(layer.in_features % 64 == 0 for layer in layers)
    error = (logits(lm) - logits(load(make_model(hidden=96), "fp32"))).norm()
    assert error < 0.4 * logits(lm).norm()


def test_a_foreign_folder_that_a_cpu_gets_wrong_is_refused(make_model: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    careless = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    AutoModelForCausalLM.from_pretrained(
        make_model(hidden=96), quantization_config=careless, device_map={"": "cpu"}
    ).save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"in_features 96, no multiple of 64: .* wrongly on the CPU"
    ):
        load(tmp_path)


def test_the_tokenizer_and_the_settings_come_along(tmp_path: Path) -> None:
    write_folder("tiny", tmp_path / "small", "nf4")
    assert read_settings(str(tmp_path / "small")) == read_settings("tiny")
    theirs, ours = (load_chat(n, ChatOptions()) for n in ("tiny", str(tmp_path / "small")))
    assert ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    assert ours.tokenizer.chat_template == theirs.tokenizer.chat_template
    assert not (tmp_path / "small" / "generation_config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_precision_that_the_folder_has_not_is_refused(make_model: Any, tmp_path: Path) -> None:
    write_folder(str(make_model()), tmp_path / "small", "int8")
    for precision in ("nf4", "fp32", "bf16"):
        with pytest.raises(ModelError, match=rf"in int8; it cannot be held in {precision}"):
            load(tmp_path / "small", precision)
    load(tmp_path / "small", "int8")


def test_nothing_is_quantised_twice_or_written_over(make_model: Any, tmp_path: Path) -> None:
    write_folder(str(make_model()), tmp_path / "small", "fp4")
    with pytest.raises(ModelError, match="quantised already, in fp4"):
        write_folder(str(tmp_path / "small"), tmp_path / "smaller", "nf4")
    with pytest.raises(StoreError, match="not empty"):
        write_folder(str(make_model()), tmp_path / "small", "nf4")


def test_an_interruption_leaves_nothing_behind(
    make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: str) -> None:
        assert list(tmp_path.glob(".small.partial/*.safetensors"))
        raise KeyboardInterrupt

    monkeypatch.setattr("turnhalle.agents.quantization.folder.load_tokenizer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(str(make_model()), tmp_path / "small", "nf4")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_another_quantiser_is_refused(make_model: Any, tmp_path: Path) -> None:
    shutil.copytree(make_model(), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantised by 'gptq'; Turnhalle reads bitsandbytes"):
        load(tmp_path)


@pytest.mark.parametrize("format", ["nf4", "int8"])
def test_training_never_touches_the_quantised_base_and_the_adapter_travels_alone(
    make_model: Any, tmp_path: Path, format: str
) -> None:
    write_folder(str(make_model()), tmp_path / "small", format)  # type: ignore[arg-type]
    lm = load(tmp_path / "small", lora_seed=0)
    before, at_first = base(lm), logits(lm)
    optimizer = torch.optim.SGD(lm.trainable().values(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = lm.head(lm.hidden_states(torch.arange(3, 60)[None])).log_softmax(-1)[..., 5].mean()
        loss.backward()
        optimizer.step()
    adapters.save(lm, tmp_path / "adapter")
    after = base(lm)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (logits(lm) - at_first).abs().max() > 1e-3
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors").keys()
    assert names
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    fresh = load(tmp_path / "small", adapter=tmp_path / "adapter")
    assert torch.equal(logits(fresh), logits(lm))


def test_int8_does_not_depend_on_the_rest_of_the_batch_and_has_right_gradients(
    make_model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(str(make_model("llama")), tmp_path / "small", "int8")
    lm, plain = load(tmp_path / "small"), load(make_model("llama"), "fp32")
    one = torch.arange(3, 60)[None]
    both = torch.cat([one, 259 - one])
    with caplog.at_level(logging.WARNING), torch.no_grad():
        assert torch.equal(lm.hidden_states(both)[:1], lm.hidden_states(one))
    assert not caplog.records  # bitsandbytes would say at every layer that it rounds

    def gradient(model: LanguageModel) -> torch.Tensor:
        embedded = model.model.get_input_embeddings()(one).detach().requires_grad_(True)
        output = model.model(inputs_embeds=embedded).logits.log_softmax(-1)[..., 5].sum()
        return torch.autograd.grad(output, embedded)[0].flatten()

    assert torch.cosine_similarity(gradient(lm), gradient(plain), dim=0) > 0.95


def test_trainer_and_engine_agree_on_a_written_folder(make_model: Any, tmp_path: Path) -> None:
    from turnhalle.agents.engines.local import TransformersEngine
    from turnhalle.agents.engines.parity import require_adapter_in_force

    kept = ["model.layers.0.self_attn.o_proj"]
    write_folder(str(make_model()), tmp_path / "small", "nf4", kept)
    lm, engine = (load(tmp_path / "small", lora_seed=0) for _ in range(2))
    require_adapter_in_force(lm, TransformersEngine(engine))


def test_no_code_of_ours_merges_an_adapter() -> None:
    root = Path(__file__).parents[3]
    folders = ("agents", "training", "kernels", "turnhalle")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        code = path.read_text(encoding="utf-8")
        for call in ("merge_adapter(", "merge_and_unload(", ".merge("):
            assert call not in code, path
