"""Rubrics weigh and name; hybrid rewards ask the next one only where one is silent."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.errors import ConfigError, EnvError, RewardError, UnknownNameError
from turnhalle.envs.rewards import catalogue
from turnhalle.envs.rewards.base import Fixture, Reward, Sample, Score, reward
from turnhalle.envs.rewards.catalogue import make_reward, register_reward, reward_names
from turnhalle.envs.rewards.check import check_reward
from turnhalle.envs.rewards.distance import NumericDistance
from turnhalle.envs.rewards.exact import Exact
from turnhalle.envs.rewards.first_of import FirstOf
from turnhalle.envs.rewards.length import Length
from turnhalle.envs.rewards.rubric import Rubric


@reward(full=Sample("please"), zero=Sample("now!"), malformed=Sample(""))
def polite(sample: Sample) -> float:
    """Says please."""
    return float("please" in sample.action)


class Says(Reward):
    """Says whatever it was told to."""

    name = "says"

    def __init__(self, *scores: Any) -> None:
        self.scores = scores
        self.asked: list[str] = []

    def score_batch(self, samples: Sequence[Sample]) -> list[Score]:
        self.asked += [sample.action for sample in samples]
        return list(self.scores[: len(samples)])

    def fixtures(self) -> list[Fixture]:
        return [Fixture.of(kind, Sample("a"), 1.0) for kind in ("full", "zero", "malformed")]  # type: ignore[arg-type]


def test_parts_come_weighted_and_by_name() -> None:
    rubric = Rubric({"exact": 1.0, polite: 0.25, Length(1, 3): -0.5})
    parts = rubric(Sample("42 please", gold="42"))
    assert parts == {"exact": 0.0, "polite": 0.25, "length": -0.5}
    assert rubric.range == (-0.5, 1.25)
    assert [reward.name for reward in rubric.rewards] == ["exact", "polite", "length"]


def test_parts_land_in_the_info_of_a_step() -> None:
    class Asks(th.TextEnv):
        """Say the number."""

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            return {"n": rng.randrange(10**6)}

        def start(self) -> str:
            return str(self.instance["n"])

        def respond(self, action: str) -> th.Reply:
            parts = Rubric({"exact": 1.0, "numeric_distance": 0.5})(
                Sample(action, gold=str(self.instance["n"]))
            )
            return th.End("ok", success=parts["exact"] == 1.0, parts=parts)

    env = Asks()
    observation, _ = env.reset(seed=0)
    _, earned, _, _, info = env.step(observation)
    assert earned == 1.5
    assert info["parts"] == {"exact": 1.0, "numeric_distance": 0.5}


def test_a_silent_reward_has_no_part() -> None:
    assert Rubric({polite: 1.0, "exact": 1.0})(Sample("please")) == {"polite": 1.0}


def test_silence_of_all_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(RewardError, match="none of exact, tests could judge 'hm'"):
        Rubric({"exact": 1.0, "tests": 1.0})(Sample("hm"))


def test_a_hybrid_asks_the_model_only_where_the_rule_is_silent() -> None:
    model = Says(0.75)
    hybrid = FirstOf(Exact(), model, name="verdict")
    samples = [Sample("4", gold="4"), Sample("nice"), Sample("5", gold="4")]
    assert Rubric({hybrid: 2.0}).batch(samples) == [
        {"verdict": 2.0},
        {"verdict": 1.5},
        {"verdict": 0.0},
    ]
    assert model.asked == ["nice"]
    assert check_reward(hybrid) == []


@pytest.mark.parametrize("weight", [math.nan, math.inf, 0, "1", True, None])
def test_bad_weights_are_refused(weight: Any) -> None:
    with pytest.raises(ConfigError, match="the weight of 'exact' must be a finite number other"):
        Rubric({"exact": weight})


def test_a_rubric_of_nothing_or_of_two_with_one_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        Rubric({})
    with pytest.raises(ConfigError, match="two rewards of a rubric are named 'exact'"):
        Rubric({"exact": 1.0, Exact(ignore_case=True): 1.0})


@pytest.mark.parametrize("score", [math.nan, 1.5, -0.1, "1", True])
def test_a_score_out_of_range_is_an_error_that_masks(score: Any) -> None:
    with pytest.raises(EnvError, match=r"reward 'says' said .* numbers from 0 to 1") as it:
        Rubric({Says(score): 1.0})(Sample("a"))
    assert it.value.boundary == "reward"


def test_names_are_looked_up_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'numeric_distance'"):
        make_reward("numeric_distanse")
    assert isinstance(make_reward("numeric_distance", scale=2), NumericDistance)
    with pytest.raises(ConfigError, match=r"reward 'exact' cannot be made with .*casing"):
        make_reward("exact", casing=True)
    assert set(catalogue.BUILTIN) <= set(reward_names())


def test_a_registered_reward_has_its_name_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_registered", {})
    register_reward("polite", polite)
    register_reward("polite", polite)
    assert make_reward("polite") is polite
    for name in ("polite", "exact"):
        with pytest.raises(ConfigError, match="exists already"):
            register_reward(name, Exact)


def test_packages_share_rewards_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kindness.py").write_text(
        "from turnhalle.envs.rewards.exact import Exact\n\n\n"
        "class Kind(Exact):\n    name = 'kind'\n",
        encoding="utf-8",
    )
    info = tmp_path / "kindness-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: kindness\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[turnhalle.rewards]\nkind = kindness:Kind\n", encoding="utf-8"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "kind" in reward_names()
    assert Rubric({"kind": 1.0})(Sample("a", gold="a")) == {"kind": 1.0}
    del sys.modules["kindness"]


def test_a_function_with_its_fixtures_is_a_reward() -> None:
    assert check_reward(polite) == []
    assert polite.name == "polite"
    assert polite.__doc__ == "Says please."


def test_the_check_finds_planted_faults() -> None:
    class Generous(Exact):
        def score(self, sample: Sample) -> Score:
            return 1.0

    class Forgetful(Exact):
        def fixtures(self) -> list[Fixture]:
            return super().fixtures()[:1]

    class Moody(Exact):
        mood = 0.0

        def score(self, sample: Sample) -> Score:
            self.mood = 1 - self.mood
            return super().score(sample) if self.mood else 0.5

    class Endless(Exact):
        range = (0.0, math.inf)

    assert any("'420' earned 1 instead of 0" in p for p in check_reward(Generous()))
    assert check_reward(Forgetful()) == [
        "has no fixture of kind 'malformed'",
        "has no fixture of kind 'zero'",
    ]
    assert any("earned 1, and then 0.5" in p for p in check_reward(Moody()))
    assert check_reward(Endless()) == ["declares the range (0.0, inf), which is none"]
    assert any("said nan" in p for p in check_reward(Says(math.nan)))
