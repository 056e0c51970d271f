"""Tasks and splits."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.errors import ConfigError, EnvError, TaskError
from turnhalle.envs.seeding import derive_seed
from turnhalle.envs.tasks import SPLITS, Family, Task, canonical, draw_task, split_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c, max_size=3)
)


def draw(rng: random.Random, difficulty: int) -> dict[str, Any]:
    return {"n": rng.randrange(1000 * difficulty)}


@given(st.dictionaries(st.text(), VALUES))
def test_the_split_depends_on_the_content_alone(instance: dict[str, Any]) -> None:
    shuffled = dict(reversed(instance.items()))
    assert split_of(instance) == split_of(shuffled) in SPLITS


def test_every_split_gets_its_share_and_nothing_of_another() -> None:
    family = Family("x", draw, 1, True)
    found: dict[str, set[int]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for index in range(2000):
            task = draw_task(family, split, index, 0)
            assert split_of(task.instance) == split
            found[split].add(task.instance["n"])
    assert not found["train"] & found["eval"]
    assert not found["train"] & found["test"]
    assert not found["eval"] & found["test"]
    assert 700 < len(found["train"]) < 850
    assert 70 < len(found["eval"]) < 130


def test_an_empty_list_of_tasks_is_refused_with_what_to_do() -> None:
    family = Family("me/Empty-v0", draw, 3, True, listed=lambda split, difficulty: [])
    said = r"me/Empty-v0 at difficulty 3: `listed` gave no tasks of split 'test'; return None"
    with pytest.raises(TaskError, match=said):
        draw_task(family, "test", 0, 0)


def test_tasks_that_differ_in_what_does_not_matter_are_in_one_split() -> None:
    def with_noise(rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(100), "noise": rng.random()}

    family = Family("x", with_noise, 1, True, content=lambda instance: instance["n"])
    found = {s: {draw_task(family, s, i, 0).instance["n"] for i in range(300)} for s in SPLITS}
    assert not found["train"] & (found["eval"] | found["test"])
    assert not found["eval"] & found["test"]
    assert len(found["train"]) > 60

    broken = Family("x", with_noise, 1, True, content=lambda instance: instance["m"])
    with pytest.raises(EnvError, match="bug in content of x at difficulty 1: KeyError: 'm'"):
        draw_task(broken, "train", 0, 0)


def test_families_that_open_alike_are_split_by_draw() -> None:
    class Guess(th.TextEnv):
        """Hidden."""

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            return {"secret": rng.randint(1, 10)}

        def start(self) -> str:
            return "Guess."

    env = Guess()
    assert not env.task_family().by_content
    secrets = set()
    for index in range(100):
        env.reset(options={"split": "eval", "task": index})
        secrets.add(env.instance["secret"])
    assert len(secrets) == 10  # no secret is held out


def test_a_visible_family_that_is_too_small_refuses() -> None:
    class Riddles(th.TextEnv):
        """Five riddles."""

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            return {"number": rng.randrange(5 * difficulty)}

        def start(self) -> str:
            return f"Riddle {self.instance['number']}"

    env = Riddles()
    env.reset(seed=0)  # to play is always possible
    with pytest.raises(TaskError, match="only 5 different tasks") as caught:
        env.reset(options={"split": "eval"})
    assert "Raise the difficulty" in str(caught.value)
    env.reset(options={"split": "eval", "difficulty": 100})


def test_instances_must_be_json() -> None:
    with pytest.raises(TaskError, match="plain JSON values"):
        canonical({"cells": {1, 2}})
    with pytest.raises(TaskError, match="plain JSON values"):
        canonical({"x": float("nan")})


def test_a_task_survives_json() -> None:
    task = Task("x", "eval", 3, 2, {"n": [1, "two"]}, 1)
    assert Task.from_json(task.to_json()) == task


@pytest.mark.parametrize("id", sorted(th.registered()))
def test_a_difficulty_beyond_all_measure_is_played_or_refused_by_name(id: str) -> None:
    env = th.make(id)
    for seed in range(20):
        try:
            env.reset(seed=seed, options={"difficulty": 1000})
        except ConfigError as error:
            assert "difficulty" in str(error)  # noqa: PT017


@pytest.mark.parametrize("id", sorted(th.registered()))
def test_tasks_are_the_same_in_every_process(id: str) -> None:
    code = (
        "import turnhalle as th\n"
        f"env = th.make({id!r})\n"
        "[env.reset(options={'split': 'test', 'task': i}) for i in range(3)]\n"
        "print(env.task.to_json())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(said) == 1


def test_seeds_are_stable_and_tell_their_parts_apart() -> None:
    assert derive_seed("a", 1) == 1225621968716036906
    assert derive_seed("a", 1) != derive_seed("a", "1") != derive_seed("a1")
