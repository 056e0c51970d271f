"""Sampling: flat groups are replaced within the budget, environments are mixed by weight."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import turnhalle as th
from turnhalle.agents.policy import Decision, Opening
from turnhalle.envs.core import Message
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_rng
from turnhalle.training.options import TrainOptions
from turnhalle.training.sampling import Sampler


class Luck(th.TextEnv):
    """Some tasks pay everybody, the others by chance."""

    easy = 0.5

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**9), "is_flat": rng.random() < self.easy}

    def start(self) -> str:
        return f"{self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        paid = 1.0 if self.instance["is_flat"] else float(action)
        return th.End("", success=paid > 0.5, reward=paid)


class Flat(Luck):
    """Every task pays everybody."""

    easy = 1.0


class Drawing:
    """Says a random number, by its seed."""

    name, max_concurrent = "drawing", 64

    def __init__(self) -> None:
        self._ready: list[Decision] = []
        self.played = 0

    def begin(self, opening: Opening) -> None:
        self.played += 1
        action = str(derive_rng(opening.seed).random())
        self._ready.append(Decision(opening.episode, action))

    def poll(self) -> list[Decision]:
        ready, self._ready = self._ready, []
        return ready

    def observe(self, episode: int, messages: list[Message]) -> None: ...

    def end(self, episode: int) -> None: ...


def sampler(*classes: type[th.TextEnv], **changes: Any) -> Sampler:
    mix = [{"env": {"id": "tools"}, "weight": 3.0}] * (len(classes) - 1)
    rollout = {"tasks": 8, "group_size": 4, **changes}
    options = TrainOptions.model_validate({"rollout": rollout, "mix": mix})
    return Sampler(options, [EnvFactory(cls) for cls in classes], Drawing())  # type: ignore[arg-type]


def play(given: Sampler, step: int = 1) -> tuple[list[Any], dict[str, float]]:
    return given.play(step, None, lambda done, total: False)


def num_teaching(groups: list[Any]) -> int:
    return sum(len({t.episode_return for t in group.trajectories}) > 1 for group in groups)


def test_without_a_budget_no_group_is_replaced() -> None:
    groups, metrics = play(sampler(Luck))
    assert len(groups) == 8
    assert 0 < num_teaching(groups) < 8
    assert metrics == {}


def test_flat_groups_are_replaced_until_enough_groups_teach() -> None:
    first, _ = play(sampler(Luck))
    groups, metrics = play(sampler(Luck, max_refills=100))
    assert num_teaching(groups) == 8
    assert metrics["refilled_groups"] == len(groups) - 8 > 0
    # The first tasks are those that are played without a budget, and no task comes twice.
    assert [g.task for g in groups[:8]] == [g.task for g in first]
    assert len({g.task.index for g in groups}) == len(groups)


def test_the_budget_bounds_what_is_played() -> None:
    given = sampler(Flat, max_refills=5)
    groups, metrics = play(given)
    assert len(groups) == 13
    assert metrics == {"refilled_groups": 5.0}
    assert given.policy.played == 13 * 4  # type: ignore[attr-defined]


def test_environments_are_mixed_by_weight_and_come_in_order() -> None:
    given = sampler(Luck, Flat)
    counts: Counter[str] = Counter()
    for step in range(30):
        groups, _ = play(given, step)
        assert len(groups) == 8
        counts.update(group.task.env.rpartition(":")[2] for group in groups)
    assert 0.68 < counts["Flat"] / 240 < 0.82
    again, _ = play(sampler(Luck, Flat), 29)
    assert [g.task for g in again] == [g.task for g in groups]
