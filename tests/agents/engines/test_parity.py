"""Parity: an engine that does not follow the trainer is found, and it is said how it differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.engines.parity import require_adapter_in_force, require_parity
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import EngineError


class Deaf(TransformersEngine):
    """Has a model of its own, and says yes to every adapter without taking it."""

    def load_adapter(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        self.adapter_version = version


class Own(TransformersEngine):
    """Has a model of its own, and takes adapters."""


def load(folder: Any) -> LanguageModel:
    options = ModelOptions(name=str(folder), precision="fp32", device="cpu", lora_rank=4)
    return load_model(options, lora_seed=0)


@pytest.fixture(scope="module")
def lm(make_model: Any) -> LanguageModel:
    return load(make_model())


def test_an_engine_that_follows_passes_and_nothing_of_the_plant_stays(
    lm: LanguageModel, make_model: Any
) -> None:
    before = {name: p.detach().clone() for name, p in lm.trainable().items()}
    for engine in (TransformersEngine(lm), Own(load(make_model()))):
        engine.load_adapter(7, lm.trainable())
        require_adapter_in_force(lm, engine)
        assert engine.adapter_version == 7
        assert all(torch.equal(p, before[name]) for name, p in lm.trainable().items())
        assert all(torch.equal(p, before[name]) for name, p in engine._lm.trainable().items())


def test_an_engine_that_samples_from_the_base_is_named(lm: LanguageModel, make_model: Any) -> None:
    with pytest.raises(EngineError, match="samples from the base model: the adapter is not in fo"):
        require_adapter_in_force(lm, Deaf(load(make_model())))
    assert all(not p.any() for name, p in lm.trainable().items() if ".lora_B." in name)


def test_an_engine_with_another_base_is_named(lm: LanguageModel, make_model: Any) -> None:
    other = load(make_model())
    with torch.no_grad():
        other.model.get_input_embeddings().weight.mul_(1.01)
    with pytest.raises(EngineError, match="the engine has other weights"):
        require_adapter_in_force(lm, Own(other))


def test_what_is_no_number_is_no_parity(lm: LanguageModel) -> None:
    ours = torch.zeros(3)
    assert require_parity(lm, torch.tensor([0.0, 5e-5, 0.0]), lambda: ours) == pytest.approx(5e-5)
    for wrong in (2e-4, float("nan"), float("inf")):
        with pytest.raises(EngineError, match="trainer and engine disagree"):
            require_parity(lm, torch.tensor([0.0, wrong, 0.0]), lambda: ours)


def test_an_adapter_of_another_model_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(EngineError, match="not an adapter of this model"):
        TransformersEngine(lm).load_adapter(1, {"nowhere": torch.zeros(1)})
