"""The numbers of a step are those of its episodes."""

from __future__ import annotations

import numpy as np
import pytest

from turnhalle.agents.core import Group, Segment, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.tasks import Task
from turnhalle.training.credit.assign import assign_credit
from turnhalle.training.credit.episodes import read_episodes
from turnhalle.training.credit.options import CreditOptions
from turnhalle.training.metrics import critic_metrics, rollout_metrics, staleness

TASK = Task("x/Y-v0", "train", 0, 1, {"n": 1})


def test_faults_are_rates_of_turns_and_masked_episodes_have_no_say() -> None:
    turns = [
        Turn("", "", 0.0, faults={"bad_json": 2}),
        Turn("", "", 0.0, {"exact": 1.0}, faults={"bad_json": 1, "no_call": 1}),
        Turn("", "", 0.0),
        Turn("", "", 0.0),
    ]
    played = Trajectory(TASK, 0, turns, success=True, stop=StopReason.FINISHED)
    masked = Trajectory(TASK, 1, turns, stop=StopReason.OUTSIDE_ERROR)
    groups = [Group(TASK, [played, masked])]
    metrics = rollout_metrics(groups, assign_credit(read_episodes(groups), CreditOptions()))
    assert metrics["faults/bad_json"] == 0.75
    assert metrics["faults/no_call"] == 0.25
    assert metrics["reward/exact"] == metrics["success"] == metrics["masked_episodes"] == 1.0
    assert "faults/refused" not in metrics
    assert "hack_flags" not in metrics


def test_signs_of_tampering_are_one_number() -> None:
    faults = ({"tamper/custom_type": 2, "no_call": 1}, {"tamper/left_children": 1})
    turns = [Turn("", "", 0.0, faults=given) for given in faults]
    groups = [Group(TASK, [Trajectory(TASK, 0, turns, stop=StopReason.FINISHED)])]
    metrics = rollout_metrics(groups, assign_credit(read_episodes(groups), CreditOptions()))
    assert metrics["hack_flags"] == 1.5


def test_a_critic_is_measured_where_it_has_targets() -> None:
    values, targets = np.array([[0.0, 9.0], [2.0, 9.0]]), np.array([[1.0, np.nan], [3.0, np.nan]])
    metrics = critic_metrics(values, targets)
    assert metrics == {"value_loss": 0.5, "explained_variance": pytest.approx(1.0)}
    assert critic_metrics(targets, targets)["value_loss"] == 0.0
    assert critic_metrics(values, np.full((2, 2), np.nan)) == {}


def test_staleness_is_counted_in_updates_over_sampled_tokens() -> None:
    turns = [
        Turn("", "", 0.0, segments=[Segment([7, 7, 7]), Segment([1], [-1.0], 4)]),
        Turn("", "", 0.0, segments=[Segment([7]), Segment([1, 2, 3], [-1.0] * 3, 2)]),
    ]
    groups = [Group(TASK, [Trajectory(TASK, 0, turns)])]
    assert staleness(groups, 5) == {"staleness": (1 * 1 + 3 * 3) / 4, "staleness_max": 3.0}
    assert staleness([Group(TASK, [Trajectory(TASK, 0)])], 5) == {}
