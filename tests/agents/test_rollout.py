"""Rollouts: every job is played, in any order, and what fails fails alone."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

import turnhalle as th
from turnhalle.agents.core import Trajectory
from turnhalle.agents.evaluate import evaluate
from turnhalle.agents.policy import Decision, Opening
from turnhalle.agents.rollout import Job, rollout, rollout_groups
from turnhalle.agents.scripted import scripted_policy
from turnhalle.envs.core import Message, StopReason
from turnhalle.envs.errors import ConfigError, InterruptedRunError, UnknownNameError
from turnhalle.envs.registry import EnvFactory, resolve


class Fragile(th.TextEnv):
    """Breaks on every third task."""

    max_turns = 4

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(999)}

    def start(self) -> str:
        return str(self.instance["n"])

    def respond(self, action: str) -> th.Reply:
        if self.instance["n"] % 3 == 0 and self.turn == 2:
            raise RuntimeError("broken")
        return th.Reply(str(self.rng.random()))

    def oracle(self) -> str:
        return "go on"


class FailsToStart(Fragile):
    """Breaks before the first observation, on every other task."""

    def start(self) -> str:
        if self.task.index % 2:
            raise RuntimeError("no power")
        return super().start()  # type: ignore[return-value]


class SlowAndShuffled:
    """Answers one episode at a time, in an order of its own, and stops some early."""

    name = "shuffled"
    max_concurrent = 3

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.waiting: deque[int] = deque()
        self.live: set[int] = set()
        self.most = 0

    def begin(self, opening: Opening) -> None:
        self.live.add(opening.episode)
        self.most = max(self.most, len(self.live))
        self.waiting.append(opening.episode)

    def poll(self) -> list[Decision]:
        self.waiting.rotate(self.rng.randrange(5))
        episode = self.waiting.popleft()
        stop = StopReason.CONTEXT if episode % 5 == 4 else None
        return [Decision(episode, f"say {episode}", stop=stop)]

    def observe(self, episode: int, messages: list[Message]) -> None:
        self.waiting.append(episode)

    def end(self, episode: int) -> None:
        self.live.remove(episode)


def played(seed: int) -> list[Trajectory]:
    policy = SlowAndShuffled(seed)
    jobs = [Job("train", index) for index in range(20)]
    done = rollout(EnvFactory(Fragile), policy, jobs)
    assert policy.most == 3
    assert not policy.live
    return done


def test_trajectories_come_in_the_order_of_the_jobs_whatever_the_schedule() -> None:
    first = played(0)
    assert [t.task.index for t in first] == list(range(20))
    assert first == played(1) == played(2)


def test_a_broken_environment_masks_its_episode_and_no_other() -> None:
    for trajectory in played(0):
        if trajectory.task.index % 5 == 4:
            assert trajectory.stop == StopReason.CONTEXT
            assert trajectory.truncated
            assert not trajectory.is_masked
            assert not trajectory.turns
        elif trajectory.task.instance["n"] % 3 == 0:
            assert trajectory.stop == StopReason.ENV_ERROR
            assert trajectory.is_masked
            assert "broken" in str(trajectory.error)
            assert len(trajectory.turns) == 1
        else:
            assert trajectory.stop == StopReason.MAX_TURNS
            assert len(trajectory.turns) == 4


def test_an_environment_that_fails_to_start_masks_its_episode() -> None:
    jobs = [Job("train", index) for index in range(8)]
    played = rollout(EnvFactory(FailsToStart), SlowAndShuffled(0), jobs)
    for trajectory in played:
        assert trajectory.is_masked or trajectory.task.index % 2 == 0
        if trajectory.task.index % 2:
            assert "no power" in str(trajectory.error)
            assert not trajectory.turns


def test_a_group_shares_task_start_and_noise() -> None:
    factory = resolve("pacman")
    groups = rollout_groups(
        factory, scripted_policy("oracle", factory), [Job("train", 1), Job("train", 5)], 3
    )
    assert [group.task.index for group in groups] == [1, 5]
    for group in groups:
        first, *others = group.trajectories
        assert [t.sample for t in group.trajectories] == [0, 1, 2]
        assert all(t.turns == first.turns for t in others)


def test_a_rollout_can_be_interrupted_and_ends_its_episodes() -> None:
    policy = SlowAndShuffled(0)
    with pytest.raises(InterruptedRunError):
        rollout(
            EnvFactory(Fragile),
            policy,
            [Job("train", i) for i in range(20)],
            lambda done, total: done >= 3,
        )
    assert not policy.live


def test_scripted_policies_do_what_they_say() -> None:
    factory = resolve("tools")
    rates = {
        name: evaluate(factory, scripted_policy(name, factory), 100).success.value
        for name in ("oracle", "random", "null")
    }
    assert rates["oracle"] == 1.0
    assert rates["random"] < 0.1
    assert rates["null"] == 0.0


def test_policies_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'oracle'"):
        scripted_policy("orakel", resolve("tools"))

    class NoOracle(Fragile):
        """Has none."""

        oracle = th.TextEnv.oracle

    with pytest.raises(ConfigError, match="has no oracle; write"):
        scripted_policy("random", EnvFactory(NoOracle))


def test_evaluations_of_two_policies_are_paired() -> None:
    factory = resolve("tools")
    first = evaluate(factory, scripted_policy("null", factory), 50)
    second = evaluate(factory, scripted_policy("oracle", factory), 50)
    assert [t.task for t in first.trajectories] == [t.task for t in second.trajectories]
    assert second.gain_over(first).value == 1.0
    assert (second.mean_return, first.mean_return) == (1.0, 0.0)


def test_faults_of_tool_calls_are_kept_with_their_turns_and_counted() -> None:
    factory = resolve("calendar")
    result = evaluate(factory, scripted_policy("null", factory), 4)
    assert all(turn.faults == {"no_call": 1} for t in result.trajectories for turn in t.turns)
    assert result.faults == {"no_call": 1.0}
    assert evaluate(factory, scripted_policy("oracle", factory), 4).faults == {}
