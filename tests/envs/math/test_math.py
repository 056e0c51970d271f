"""Exact answers by one strict rule."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.math.answers import extract, is_right, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("-3", -3),
        ("+4", 4),
        ("007", 7),
        ("0.50", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("1,319", 1319),
        ("12,345,678.5", Fraction("12345678.5")),
    ],
)
def test_numbers_are_read_as_rationals(text: str, number: Fraction) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "1 2", "1e5", "1/0", "1/00", "0.5/2", "1,23", "12,3456", "٣", "1_000", "--1",
     "1.", ".5", "nan", "inf", "0x10", "9" * 1001],
)  # fmt: skip
def test_what_is_no_number_is_no_answer(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("42", "42"),
        (" 42\n", "42"),
        ("1+1=2 #### 2", "2"),
        ("#### 1\n#### 2", "2"),
        ("so \\boxed{3/4}.", "3/4"),
        ("<answer> 5 </answer> thanks", "5"),
        ("#### 1 \\boxed{2}", "1 \\boxed{2}"),
        ("\\boxed{1} #### 2", "2"),
        ("#### ", ""),
        ("it is 42", "it is 42"),
    ],
)
def test_the_last_marker_wins(action: str, answer: str) -> None:
    assert extract(action) == answer


@given(st.integers(-(10**6), 10**6).filter(bool))  # 00 is 0
def test_no_mutation_of_the_gold_is_right(gold: int) -> None:
    text = str(gold)
    wrong = {
        str(gold + 1), str(gold - 1), str(-gold), text + "0", text + "1", "1" + text.lstrip("-"),
        text[:-1], "", f"{text} or {gold + 1}", f"{text} {text}", f"the answer is {text}",
        f"#### {gold + 1}", f"\\boxed{{{gold + 1}}}", f"#### {text}\n#### {gold + 1}", f"{text}!",
    }  # fmt: skip
    assert is_right(text, text)
    assert is_right(f"work #### {text}", text)
    assert not [action for action in wrong - {text} if is_right(action, text)]


def test_a_wrong_answer_may_be_corrected_once() -> None:
    env = th.make("math")
    env.reset(seed=1)
    observation, reward, terminated, *_ = env.step("#### 1000")
    assert (observation, reward, terminated) == ("wrong", 0.0, False)
    _, reward, terminated, _, info = env.step(env.oracle())
    assert (reward, terminated, info["success"]) == (1.0, True, True)


def test_the_last_attempt_ends_the_episode() -> None:
    env = th.make("math", attempts=1)
    env.reset(seed=1)
    _, reward, terminated, truncated, info = env.step("#### 1000")
    assert (reward, terminated, truncated, info["success"]) == (0.0, True, False, False)


@pytest.mark.parametrize("difficulty", [1, 2, 5])
def test_chains_are_right_and_never_negative(difficulty: int) -> None:
    env = th.make("math", difficulty=difficulty)
    for task in range(200):
        env.reset(options={"task": task})
        question, answer = env.instance["question"], env.instance["answer"]
        assert eval(question) == int(answer) >= 0
        assert env.instance["work"].count("=") == difficulty + 1
        for step in env.instance["work"].split():
            left, right = step.split("=")
            assert eval(left) == int(right) >= 0
