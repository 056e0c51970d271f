"""Families: their tests tell mistakes from solutions, and never show what is hidden."""

from __future__ import annotations

import json
import random

import pytest

from turnhalle.envs.coding.families import FAMILIES, LEVELS
from turnhalle.envs.coding.grading.values import is_same
from turnhalle.envs.coding.problem import (
    NUM_HIDDEN,
    NUM_VISIBLE,
    Problem,
    _agrees,
    finish,
)

MIN_FAMILIES = 15


def drawn(name: str, seed: int, difficulty: int = 1) -> Problem:
    return finish(name, FAMILIES[name](random.Random(seed), difficulty))


def test_there_are_enough_families_and_each_has_one_level() -> None:
    assert len(FAMILIES) >= MIN_FAMILIES
    assert sum(map(len, LEVELS.values())) == len(FAMILIES)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("difficulty", [1, 2, 5])
def test_tasks_are_json_with_hidden_tests_apart_from_the_shown(name: str, difficulty: int) -> None:
    for seed in range(8):
        problem = drawn(name, seed, difficulty)
        assert is_same(json.loads(json.dumps(problem)), problem)
        shown = [json.dumps(t.get("args", t.get("stdin"))) for t in problem["visible"]]
        hidden = [json.dumps(t.get("args", t.get("stdin"))) for t in problem["hidden"]]
        assert len(shown) == NUM_VISIBLE
        assert len(hidden) >= NUM_HIDDEN
        assert len(set(shown + hidden)) == len(shown) + len(hidden)
        wanted = [json.dumps(t.get("expected", t.get("stdout"))) for t in problem["hidden"]]
        assert len(set(wanted)) > 1, "one constant passes every hidden test"
        assert problem["mistakes"]
        assert problem["solution"] not in problem["mistakes"]


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_words_are_equal_tasks_and_there_are_many(name: str) -> None:
    questions = {problem["question"]: problem for problem in (drawn(name, s) for s in range(120))}
    assert len(questions) >= 30
    for seed in range(120):
        problem = drawn(name, seed)
        assert questions[problem["question"]] == problem


@pytest.mark.parametrize("name", FAMILIES)
def test_the_solution_passes_every_test_and_each_mistake_fails_a_hidden_one(name: str) -> None:
    for seed in range(20):
        problem = drawn(name, seed, 1 + seed % 3)
        entry, hidden = problem["entry"], problem["hidden"]
        assert all(_agrees(problem["solution"], entry, t) for t in hidden + problem["visible"])
        for wrong in problem["mistakes"]:
            assert not all(_agrees(wrong, entry, test) for test in hidden), wrong


def test_a_family_that_cannot_be_tested_is_refused() -> None:
    from turnhalle.envs.coding.problem import Draft
    from turnhalle.envs.errors import EnvError

    constant = Draft("Write f(x): 1.", "def f(x):\n    return 1\n", (), lambda rng: [rng.random()])
    with pytest.raises(EnvError, match="too few different tests"):
        finish("constant", constant)


def test_a_planted_bug_is_caught_by_a_hidden_test() -> None:
    for seed in range(40):
        problem = drawn("repair", seed)
        broken = problem["question"].split("```python\n")[1].split("```")[0]
        assert broken in problem["mistakes"]
