"""Dynamic 4-bit: what suffers is found, and kept while the budget lasts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.quantization.plan import (
    Damage,
    Unit,
    choose,
    measure,
    plan,
    units_of,
)
from turnhalle.agents.quantization.yardstick import Passage, Yardstick
from turnhalle.envs.errors import DataError


def load(folder: Path | str, precision: str = "fp32") -> LanguageModel:
    return load_model(ModelOptions(name=str(folder), precision=precision, device="cpu"))  # type: ignore[arg-type]


def text(count: int = 6, length: int = 40) -> list[Passage]:
    ids = torch.randint(3, 250, (count, length), generator=torch.Generator().manual_seed(0))
    return [Passage(row.tolist(), [True] * length) for row in ids]


@pytest.fixture(scope="module")
def lm(make_model: Callable[..., Path]) -> LanguageModel:
    return load(make_model("llama"))


def plant_outliers(lm: LanguageModel, name: str) -> torch.Tensor:
    """One huge weight a block: the others of the block are lost in 4 bits."""
    weight: torch.Tensor = lm.model.get_submodule(name).weight.data
    kept = weight.clone()
    weight.view(-1, 64)[:, 0] *= 40
    return kept


def test_the_kl_is_that_of_the_definition(lm: LanguageModel, make_model: Any) -> None:
    other = load(make_model("llama"), "nf4")
    passages = [Passage([5, 9, 12, 7], [True, False, True, True]), Passage([8, 3], [False, True])]
    total = 0.0
    with torch.no_grad():
        for passage in passages:
            ids = torch.tensor([passage.token_ids])
            p, q = (x.model(input_ids=ids).logits.double().log_softmax(-1)[0] for x in (lm, other))
            kl = (p.exp() * (p - q)).sum(-1)
            total += sum(float(kl[at - 1]) for at in range(1, len(ids[0])) if passage.is_scored[at])
    yardstick = Yardstick(lm, passages)
    assert yardstick.num_tokens == 3
    assert yardstick.kl(other) == pytest.approx(total / 3, rel=1e-4)
    assert yardstick.kl(lm) == 0


def test_text_without_a_token_to_predict_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(DataError, match="no token to predict"):
        Yardstick(lm, [Passage([5, 6], [True, False])])


def test_layers_that_an_engine_fuses_are_one_unit(lm: LanguageModel) -> None:
    units = units_of(lm, "nf4")
    assert [unit.name for unit in units[:4]] == [
        "model.layers.0.self_attn.qkv_proj",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.mlp.gate_up_proj",
        "model.layers.0.mlp.down_proj",
    ]
    assert len(units) == 8
    assert sum(len(unit.layers) for unit in units) == 14
    assert units[2].skip_names == [
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.gate_up_proj",
    ]
    assert units[3].skip_names == ["model.layers.0.mlp.down_proj"]


def test_layers_that_stay_anyway_are_no_units(make_model: Any) -> None:
    units = units_of(load(make_model(hidden=96)), "nf4")
    # Only down_proj reads a multiple of 64 there (192), and o_proj (4 heads of 16).
    assert {unit.name.rpartition(".")[2] for unit in units} == {"down_proj", "o_proj"}


@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn.o_proj"]
)
def test_the_layer_that_suffers_is_found_and_kept(make_model: Any, name: str) -> None:
    lm = load(make_model("llama"))
    plant_outliers(lm, name)
    before = {n: p.clone() for n, p in lm.model.named_parameters()}
    yardstick = Yardstick(lm, text())
    damages = measure(lm, yardstick, "nf4")
    worst = max(damages, key=lambda damage: damage.kl)
    assert name in worst.unit.layers
    assert worst.output_error == max(d.output_error for d in damages)
    assert all(torch.equal(p, before[n]) for n, p in lm.model.named_parameters())
    assert choose(damages, worst.extra_bytes) == [worst.unit]


def test_a_damage_is_what_the_model_loses_with_that_unit_in_4_bits(make_model: Any) -> None:
    from turnhalle.agents.quantization.rounding import four_bit

    lm, other = (load(make_model("llama")) for _ in range(2))
    yardstick = Yardstick(lm, text())
    damage = measure(lm, yardstick, "fp4")[1]
    assert damage.unit.name == "model.layers.0.self_attn.o_proj"
    layer: Any = other.model.get_submodule(damage.unit.name)
    right = layer.weight.data.clone()
    layer.weight.data = four_bit(right, "fp4")
    assert damage.kl == pytest.approx(yardstick.kl(other), rel=1e-5)
    relative = (layer.weight.data - right).norm() / right.norm()
    assert damage.weight_error == pytest.approx(float(relative), rel=1e-5)
    assert 0.3 * damage.weight_error < damage.output_error < 3 * damage.weight_error


def test_most_damage_a_byte_is_kept_first_while_the_budget_lasts() -> None:
    def damage(name: str, kl: float, extra: int) -> Damage:
        return Damage(Unit((name,)), kl, 0.1, 0.1, extra)

    damages = [
        damage("large", 0.30, 100),
        damage("small", 0.20, 10),
        damage("harmless", 1e-8, 1),
        damage("middle", 0.06, 10),
    ]

    def names(budget: float) -> list[str]:
        return [unit.name for unit in choose(damages, budget)]

    assert names(0) == []
    assert names(10) == ["small"]
    assert names(25) == ["small", "middle"]
    assert names(119) == ["small", "middle"]
    assert names(120) == ["small", "middle", "large"]


def test_the_budget_is_a_share_of_the_plain_4_bit_model(lm: LanguageModel) -> None:
    yardstick = Yardstick(lm, text(2))
    assert plan(lm, yardstick, 0.0).kept == []
    everything = plan(lm, yardstick, 10.0)
    assert len(everything.kept) == len(everything.damages) == 8
    size = 2 * lm.num_parameters - sum(d.extra_bytes for d in everything.damages)
    some = plan(lm, yardstick, 0.2)
    used = sum(d.extra_bytes for d in some.damages if d.unit in some.kept)
    assert 0 < used <= 0.2 * size
