"""The numbers of a step are those of its episodes."""

from __future__ import annotations

from turnhalle.agents.core import Group, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.tasks import Task
from turnhalle.training.metrics import rollout_metrics

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
    metrics = rollout_metrics([Group(TASK, [played, masked])], [None])
    assert metrics["faults/bad_json"] == 0.75
    assert metrics["faults/no_call"] == 0.25
    assert metrics["reward/exact"] == metrics["success"] == metrics["masked_episodes"] == 1.0
    assert "faults/refused" not in metrics
