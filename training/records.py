"""What the run store keeps of a step's episodes."""

from __future__ import annotations

from collections.abc import Sequence

from turnhalle.agents.core import Group, Trajectory

from .credit.assign import Credit


def step_records(
    groups: Sequence[Group], credit: Credit
) -> list[tuple[str, Trajectory, Sequence[float] | None]]:
    """Phase, trajectory, and the advantage of each turn where the group teaches something."""
    episodes = [trajectory for group in groups for trajectory in group.trajectories]
    return [
        (
            "train",
            trajectory,
            credit.worth[row, : len(trajectory.turns)].tolist() if credit.teaches[row] else None,
        )
        for row, trajectory in enumerate(episodes)
    ]
