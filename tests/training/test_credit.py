"""Credit: values by hand, and what teaches nothing says so."""

from __future__ import annotations

import numpy as np
import pytest

from turnhalle.agents.core import Group, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.tasks import Task
from turnhalle.training.credit import grpo

TASK = Task("x", "train", 0, 1, {})


def group(*episodes: list[float], masked: tuple[int, ...] = ()) -> Group:
    trajectories = [
        Trajectory(
            TASK,
            i,
            [Turn("", "", reward) for reward in rewards],
            stop=StopReason.ENV_ERROR if i in masked else StopReason.FINISHED,
        )
        for i, rewards in enumerate(episodes)
    ]
    return Group(TASK, trajectories)


def test_advantages_are_the_z_scores_of_the_returns() -> None:
    """The values that TRL 1.16 gives for rewards 1 and 0 (std with ddof 1, plus 1e-4)."""
    advantages = grpo(group([1.0], [0.0]))
    assert advantages is not None
    assert [a[0] for a in advantages] == pytest.approx([0.7070067953, -0.7070067953], abs=1e-10)


def test_every_turn_gets_the_advantage_of_its_episode() -> None:
    advantages = grpo(group([0.0, 0.5, 0.5], [0.0], [0.25, 0.25]))
    assert advantages is not None
    assert [len(a) for a in advantages] == [3, 1, 2]
    assert all(len(set(a)) == 1 for a in advantages)
    assert sum(a[0] for a in advantages) == pytest.approx(0.0)


def test_groups_without_variance_teach_nothing() -> None:
    assert grpo(group([0.3, 0.7], [1.0], [0.5, 0.5])) is None
    assert grpo(group([1.0])) is None


def test_masked_episodes_neither_count_nor_learn() -> None:
    advantages = grpo(group([1.0], [0.0], [100.0], masked=(2,)))
    assert advantages is not None
    assert advantages[0][0] == pytest.approx(0.7070067953)
    assert np.all(advantages[2] == 0.0)
    assert grpo(group([1.0], [0.0], masked=(1,))) is None
