"""Adapters are peft's: saved by us, loaded by anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents import adapters
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import ModelError


def load(folder: Any, **rest: Any) -> Any:
    return load_model(ModelOptions(name=str(folder), precision="fp32", device="cpu"), **rest)


def trained(folder: Any) -> Any:
    lm = load(folder, lora_seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lm.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return lm


def test_peft_loads_what_is_saved_and_gives_the_same_logits(
    make_model: Any, tmp_path: Path
) -> None:
    import peft
    import transformers

    lm = trained(make_model())
    adapters.save(lm, tmp_path)
    base = transformers.AutoModelForCausalLM.from_pretrained(make_model(), dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path)).eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        ours = lm.head(lm.hidden_states(ids))
        assert torch.allclose(theirs(input_ids=ids).logits, ours, atol=1e-3)
        assert not torch.allclose(load(make_model()).head(lm.hidden_states(ids)) * 0, ours)


def test_a_saved_adapter_is_put_back_bit_for_bit(make_model: Any, tmp_path: Path) -> None:
    lm = trained(make_model())
    adapters.save(lm, tmp_path)
    again = load(make_model(), adapter=tmp_path)
    assert lm.trainable().keys() == again.trainable().keys()
    for name, parameter in lm.trainable().items():
        assert torch.equal(parameter, again.trainable()[name])


def test_folders_without_or_with_a_foreign_adapter_are_refused(
    make_model: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="holds no adapter"):
        load(make_model(), adapter=tmp_path)
    adapters.save(trained(make_model(hidden=96)), tmp_path)
    with pytest.raises(ModelError, match="does not fit the model"):
        load(make_model(), adapter=tmp_path)


@pytest.mark.parametrize(("precision", "kernels"), [("fp32", "off"), ("nf4", "off"), ("nf4", "on")])
def test_a_twin_shares_the_base_and_nothing_that_training_changes(
    make_model: Any, precision: Any, kernels: Any
) -> None:
    options = ModelOptions(
        name=str(make_model()), precision=precision, device="cpu", kernels=kernels
    )
    lm = load_model(options, lora_seed=0)
    other = adapters.twin(lm)
    ids = torch.arange(3, 60)[None]

    def states(model: Any) -> torch.Tensor:
        hidden: torch.Tensor = model.hidden_states(ids)  # kernels are used with gradients only
        return hidden.detach()

    before = states(lm)
    assert torch.equal(states(other), before)
    assert (other.no_trees, other._can_group) == (lm.no_trees, lm._can_group) == ("", True)
    with adapters.Snapshot(1, {k: v + 0.05 for k, v in lm.trainable().items()}).in_force(lm):
        assert not torch.allclose(states(lm), before)
        assert torch.equal(states(other), before)
        moved, snapshot = states(lm), adapters.Snapshot.of(lm, 1)
    assert torch.equal(states(lm), before)
    with snapshot.in_force(other):
        assert torch.equal(states(other), moved)
    of_twin = {p.data_ptr() for p in other.model.parameters()}
    for parameter in lm.model.parameters():
        assert (parameter.data_ptr() in of_twin) != parameter.requires_grad
