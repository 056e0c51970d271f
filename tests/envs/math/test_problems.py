"""`MathProblems-v0`: families and modes."""

from __future__ import annotations

import random
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.audit.core import Subject, audit
from turnhalle.envs.errors import ConfigError, UnknownNameError
from turnhalle.envs.math.families import FAMILIES
from turnhalle.envs.registry import resolve
from turnhalle.envs.tools.formats import render_call


@pytest.mark.parametrize("mode", ["calculator", "attempts"])
def test_every_mode_passes_the_audit(mode: str) -> None:
    factory = resolve("mathproblems", mode=mode, difficulty=3)
    assert not [finding for finding in audit(Subject(factory, is_quick=True)) if not finding.is_ok]


def test_all_families_are_drawn_by_default_and_chosen_ones_only_on_demand() -> None:
    env = th.make("mathproblems")
    found = set()
    for task in range(400):
        env.reset(options={"task": task})
        found.add(env.instance["family"])
    assert found == set(FAMILIES)
    assert len(FAMILIES) >= 12
    env = th.make("mathproblems", families=["linear", "dates"])
    env.reset(seed=1)
    assert {env.reset(seed=s) and env.instance["family"] for s in range(30)} == {"linear", "dates"}
    assert th.make("mathproblems", families="linear").families == ["linear"]  # type: ignore[attr-defined]


def test_no_sum_that_math_v0_trains_on_is_tested_here() -> None:
    def sums(id: str, split: str, **options: Any) -> set[str]:
        env, found = th.make(id, **options), set()
        for task in range(2000):
            question, _ = env.reset(options={"task": task, "split": split})
            found.add(question.removeprefix("Compute ").removesuffix("."))
        return found

    trained, tested = sums("math", "train"), sums("mathproblems", "test", families=["chain"])
    assert not trained & tested
    assert trained & sums("mathproblems", "train", families=["chain"])


def test_bad_options_say_what_is_allowed() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown math family 'lineer'; did you mean 'linear'"
    ):
        th.make("mathproblems", families=["lineer"])
    with pytest.raises(UnknownNameError, match=r"unknown mode 'atempts'; did you mean 'attempts'"):
        th.make("mathproblems", mode="atempts")
    with pytest.raises(ConfigError, match=r"no math family in \[\]; choose from"):
        th.make("mathproblems", families=[])
    with pytest.raises(ConfigError, match="mode='attempts'"):
        th.make("mathproblems", max_turns=3)


def test_a_single_answer_ends_the_episode() -> None:
    env = th.make("mathproblems")
    for action, success in (("#### 123456789", False), (None, True)):
        env.reset(seed=4)
        text, reward, ended, _, info = env.step(env.oracle() if action is None else action)
        assert (reward, ended, info["success"]) == (float(success), True, success)
        assert text == ("right" if success else "wrong")


def test_attempts_get_feedback() -> None:
    env = th.make("mathproblems", mode="attempts", max_turns=4, families=["arithmetic"])
    env.reset(seed=2)
    gold = int(env.instance["answer"])
    assert env.step(f"#### {gold + 1}")[0] == "too high"
    assert env.step(f"#### {gold - 1}")[0] == "too low"
    assert env.step("#### ten")[0] == "wrong: no answer found"
    text, reward, ended, cut, info = env.step(f"#### {gold}")
    assert (text, reward, ended, cut, info["success"]) == ("right", 1.0, True, False, True)


def test_attempts_run_out() -> None:
    env = th.make("mathproblems", mode="attempts", families=["system"])
    env.reset(seed=2)
    said = [env.step("#### 99, 99")[0] for _ in range(3)]
    assert said == ["wrong"] * 3
    assert env.is_over


def test_the_calculator_is_there_in_its_mode_only() -> None:
    env = th.make("mathproblems", mode="calculator", families=["arithmetic"])
    _, info = env.reset(seed=1)
    assert [tool.name for tool in info["tools"]] == ["calculate"]
    text, _, ended, _, info = env.step(render_call("calculate", expression="2^10"))
    assert (text, ended, info["messages"][0].role) == ("1024", False, "tool")
    assert env.step(f"#### {env.instance['answer']}")[4]["success"]
    env = th.make("mathproblems")
    _, info = env.reset(seed=1)
    assert "tools" not in info
    assert env.step(render_call("calculate", expression="2^10"))[2:3] == (True,)


def test_a_calculator_episode_is_cut_at_its_last_turn() -> None:
    env = th.make("mathproblems", mode="calculator", max_turns=2)
    env.reset(seed=1)
    env.step(render_call("calculate", expression="1"))
    _, _, ended, cut, info = env.step(render_call("calculate", expression="1"))
    assert (ended, cut, info["success"]) == (False, True, False)


def test_mistakes_are_wrong() -> None:
    env = th.make("mathproblems")
    rng = random.Random(0)
    for task in range(200):
        env.reset(options={"task": task})
        mistake = env.mistake(rng)
        if mistake is not None:
            assert not env.step(mistake)[4]["success"]


def test_difficulties_up_to_five_and_beyond_are_playable() -> None:
    for difficulty in (2, 3, 4, 5, 40):
        env = th.make("mathproblems", difficulty=difficulty)
        for task in range(60):
            env.reset(options={"task": task, "split": "eval"})
            assert env.step(env.oracle())[4]["success"]


def test_attempts_are_too_few_for_bisection() -> None:
    assert th.make("mathproblems", mode="attempts", max_turns=4).max_turns == 4
    with pytest.raises(ConfigError, match="at most 4 turns"):
        th.make("mathproblems", mode="attempts", max_turns=5)
