"""Rewards say what their fixtures say, stay in their range, and pay nothing that is wrong."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.errors import ConfigError, RewardError
from turnhalle.envs.rewards.base import Reward, Sample
from turnhalle.envs.rewards.check import check_reward
from turnhalle.envs.rewards.cost import Cost
from turnhalle.envs.rewards.distance import NumericDistance
from turnhalle.envs.rewards.exact import Exact
from turnhalle.envs.rewards.form import Form
from turnhalle.envs.rewards.length import Length, Overlong
from turnhalle.envs.rewards.readability import Readability
from turnhalle.envs.rewards.shaping import Shaping
from turnhalle.envs.rewards.tests_fraction import TestsFraction
from turnhalle.envs.rewards.tool_calls import ToolCalls
from turnhalle.envs.tools.formats import render_call

REWARDS: list[Reward] = [
    Exact(),
    Exact(ignore_case=True),
    NumericDistance(),
    NumericDistance(scale=3, ceiling=0.0),
    Form(r"<answer>\d+</answer>", example="<answer>7</answer>"),
    Length(2, 5),
    Length(1, 1, unit="characters"),
    Overlong(100, 50),
    Overlong(0, 1, unit="words"),
    TestsFraction(),
    ToolCalls(),
    Cost(0.1),
    Cost(0.1, most=2.5, unit="minutes", name="minutes"),
    Readability(),
    Shaping(),
    Shaping((-3.0, 2.0), gamma=0.9),
]


@pytest.mark.parametrize("reward", REWARDS, ids=lambda r: type(r).__name__)
def test_every_reward_does_what_its_fixtures_say(reward: Reward) -> None:
    assert check_reward(reward) == []


@pytest.mark.parametrize("reward", [r for r in REWARDS if not isinstance(r, Readability)])
@given(action=st.text(alphabet=st.characters()), gold=st.sampled_from([None, "3", "-0.5"]))
def test_no_text_takes_a_reward_out_of_its_range(
    reward: Reward, action: str, gold: str | None
) -> None:
    known = {"num_tokens": len(action), "potential_before": 0.0, "potential_after": 0.0}
    score = reward(Sample(action, "a task", gold, known))
    assert score is None or reward.range[0] <= score <= reward.range[1]


@pytest.mark.parametrize("gold", ["4", "-4", "0", "1000000", "0.25", "-72"])
def test_no_mutation_of_a_number_earns_more_than_the_ceiling(gold: str) -> None:
    reward = NumericDistance(ceiling=0.4)
    mutants = [f"-{gold}", gold + "0", gold + "1", gold[:-1], f"1{gold}", f"{gold} {gold}", "", "e"]
    mutants += [str(float(gold) + 1), str(float(gold) - 1), f"{gold}.", "nan", "inf", f"{gold}e0"]
    for mutant in mutants:
        score = reward(Sample(mutant, gold=gold))
        if mutant in ("-0", "00", "0.250"):  # the same number
            assert score == 1.0
        else:
            assert score is not None
            assert score <= 0.4, mutant


def test_nearer_numbers_earn_more() -> None:
    scores = [NumericDistance()(Sample(str(said), gold="100")) for said in (100, 99, 80, 10, 250)]
    assert scores == pytest.approx([1.0, 0.495, 0.4, 0.05, 0.0])


@pytest.mark.parametrize(
    ("action", "gold"),
    [
        ("#### 42", "42"),
        ("6 * 7 is 42.\n#### 42", "42"),
        (r"\boxed{42}", "42"),
        ("<answer>42</answer>", "42"),
        ("1,319", "1319"),
        ("1319", "1,319"),
        ("3/4", "3/4"),
        ("0.75", "3/4"),
        (r"\boxed{\frac{3}{4}}", "0.75"),
        ("$42$", "42"),
    ],
)
def test_numbers_are_read_as_the_math_tasks_read_them(action: str, gold: str) -> None:
    assert NumericDistance()(Sample(action, gold=gold)) == 1.0


@pytest.mark.parametrize(
    "action", ["42 or 43", "it is 42", "#### 42 43", "41 #### ", "13,19", "1/0"]
)
def test_what_is_not_an_answer_earns_nothing(action: str) -> None:
    assert NumericDistance(scale=1e6)(Sample(action, gold="42")) == 0.0


def test_a_gold_that_is_no_number_is_a_bug_and_not_a_zero() -> None:
    with pytest.raises(RewardError, match="needs a number as gold, got 'four'"):
        NumericDistance()(Sample("4", gold="four"))


def test_shaping_adds_up_to_the_first_potential_whatever_happens() -> None:
    reward, gamma = Shaping((0.0, 5.0), gamma=0.9), 0.9
    for path in ([3.0, 1.0, 5.0, 2.0], [3.0, 0.0, 0.0, 0.0], [3.0, 4.0]):
        total = 0.0
        for t, before in enumerate(path):
            is_last = t == len(path) - 1
            after = 0.0 if is_last else path[t + 1]
            info = {"potential_before": before, "potential_after": after, "is_last": is_last}
            total += gamma**t * (reward(Sample("go", info=info)) or 0.0)
        assert total == pytest.approx(-3.0)


def test_readability_counts_findings_and_padding_dilutes_nothing() -> None:
    ugly = "def f(a):\n    if a == None:\n        return 1\n    else:\n        return 2\n"
    passed = {"passed": True}
    once = Readability()(Sample(ugly, info=passed))
    assert once is not None
    assert 0 < once < 1
    padded = ugly + "\n\n" + "# a comment\n" * 200
    assert Readability()(Sample(padded, info=passed)) == once


def test_readability_pays_nothing_for_code_that_fails() -> None:
    assert Readability()(Sample("x = 1\n", info={"passed": False})) == 0.0
    assert Readability()(Sample("x = 1\n", info={"passed": "yes"})) == 0.0


@pytest.mark.parametrize("action", ["\ud800", "\0", "x" * 200_000, "```python\n```", "```"])
def test_readability_survives_any_text(action: str) -> None:
    assert Readability()(Sample(action, info={"passed": True})) == 0.0


class Till(th.ToolEnv):
    """Ask for a price."""

    rubric = th.Rubric({"tool_calls": 1.0})

    def draw(self, rng: random.Random, difficulty: int) -> Any:
        return {"item": rng.randint(1, 999)}

    def start(self) -> str:
        return f"What does item {self.instance['item']} cost?"

    @th.tool
    def price(self, item: str, more: int = 0) -> str:
        """What an item costs."""
        if item == "none":
            raise th.ToolError("no such item")
        return "3"

    def compose(self, results: list[th.Message]) -> th.Reply:
        sample = th.Sample(self._journal[-1], info={"faults": self.count_faults()})
        return replace(super().compose(results), parts=self.rubric(sample))


@pytest.mark.parametrize(
    ("calls", "score"),
    [
        ([{"item": "fig"}], 1.0),
        ([{"item": "fig"}, {"item": "fig", "more": "x"}], 0.5),
        ([{"item": True}], 0.0),
        ([{"item": "none"}], 1.0),
        ([{}, {"item": "fig", "less": 1}, {"item": "fig"}, {"item": "fig", "more": 2}], 0.5),
    ],
)
def test_calls_are_scored_by_the_faults_that_their_tools_find(calls: Any, score: float) -> None:
    env = Till()
    env.reset(seed=0)
    action = "\n".join(render_call("price", **call) for call in calls)
    *_, info = env.step(action)
    assert info["parts"] == {"tool_calls": score}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NumericDistance(ceiling=1.0), "ceiling must be from 0 to below 1"),
        (lambda: NumericDistance(scale=math.nan), "scale must be a finite number above 0, got nan"),
        (lambda: Form("(", example="a"), "is no regular expression"),
        (lambda: Form("a", example="b"), "the example 'b' does not match 'a'"),
        (lambda: Form("a*", example="a"), "the counterexample '' matches"),
        (lambda: Length(3, 2), "1 <= low <= high"),
        (lambda: Length(1, 2, unit="lines"), "unknown unit 'lines'"),  # type: ignore[arg-type]
        (lambda: Overlong(-1, 2), "limit >= 0"),
        (lambda: TestsFraction(ceiling=-0.1), "ceiling"),
        (lambda: Cost(math.inf), "price must be a finite number above 0, got inf"),
        (lambda: Shaping((1.0, 2.0)), "the potential of the end, 0"),
        (lambda: Shaping((2.0, 1.0)), "two finite numbers, the lower first"),
        (lambda: Shaping(gamma=0.0), "gamma must be above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    ("reward", "info"),
    [
        (TestsFraction(), {"tests_passed": 3, "tests_total": 2}),
        (TestsFraction(), {"tests_passed": 0, "tests_total": 0}),
        (TestsFraction(), {"tests_passed": 1}),
        (Cost(1.0), {"turns": -1}),
        (Cost(1.0), {"turns": math.nan}),
        (Overlong(1, 1), {}),
        (Shaping(), {"potential_before": 7.0, "potential_after": 0.0}),
        (Shaping(), {"potential_before": 0.0}),
    ],
)
def test_what_an_environment_tells_wrongly_is_an_error(reward: Reward, info: Any) -> None:
    with pytest.raises(RewardError):
        reward(Sample("a", info=info))
