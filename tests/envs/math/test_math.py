"""`Math-v0`: two attempts at a chain."""

from __future__ import annotations

import pytest

import turnhalle as th


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
