"""The episodes of a step as arrays: all that credit may look at.

Symbols of this package: E episodes of a step, K turns of the longest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from turnhalle.agents.core import Group, Trajectory
from turnhalle.envs.core import StopReason

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Episodes:
    """Everything that happened in a step, `[trajectories x turns]`, short episodes padded."""

    rewards: Floats
    """`[E, K]`, 0 behind the end of an episode."""
    num_turns: NDArray[np.int64]
    """`[E]`"""
    group: NDArray[np.int64]
    """`[E]` number of the group; the episodes of a group are next to each other."""
    is_masked: NDArray[np.bool_]
    """`[E]` failed for reasons of ours: neither learns nor counts in a baseline."""
    is_cut: NDArray[np.bool_]
    """`[E]` ended by a compute budget (the context), not by the task or its own turn limit."""
    anchor: NDArray[np.int64]
    """`[E, K]` number of what the policy saw before the turn: equal within a group where the
    observations were; -1 behind the end."""
    fork_parent: NDArray[np.int64]
    """`[E]` the episode that this one was forked from, -1 where it began at the task's start."""
    fork_turn: NDArray[np.int64]
    """`[E]` first turn of its own: those before are its parent's."""
    values: Floats | None = None
    """`[E, K]` what a critic expected before the turn; only PPO has one."""

    @property
    def is_turn(self) -> NDArray[np.bool_]:
        """`[E, K]` is there such a turn, the episode's own, in an episode that counts?"""
        turn = np.arange(self.rewards.shape[1])
        is_own = (self.fork_turn[:, None] <= turn) & (turn < self.num_turns[:, None])
        return is_own & ~self.is_masked[:, None]

    @property
    def returns(self) -> Floats:
        """`[E]` sum of the rewards, added in the order of the turns."""
        return np.array([sum(row) for row in self.rewards.tolist()], dtype=np.float64)

    def returns_to_go(self, gamma: float) -> Floats:
        """`[E, K]` what came from a turn on: sum over k >= t of gamma^(k - t) r_k."""
        to_go = np.zeros_like(self.rewards)
        rest = np.zeros(len(self.rewards))
        for turn in reversed(range(self.rewards.shape[1])):
            rest = self.rewards[:, turn] + gamma * rest
            to_go[:, turn] = rest
        return to_go

    def members(self) -> Iterator[NDArray[np.int64]]:
        """For each group the episodes of it that count."""
        for number in np.unique(self.group):
            yield np.flatnonzero((self.group == number) & ~self.is_masked)

    def spread(self, worth: Floats) -> Floats:
        """Give every turn of an episode's own the same `[E]` credit."""
        return np.where(self.is_turn, worth[:, None], 0.0)

    def with_rewards(self, rewards: Floats) -> Episodes:
        """The same episodes, paid otherwise."""
        return replace(self, rewards=rewards)

    def with_values(self, values: Floats) -> Episodes:
        """The same episodes, with what a critic expected."""
        return replace(self, values=values)


def read_episodes(groups: Sequence[Group]) -> Episodes:
    """Lay out the groups of a step."""
    trajectories = [t for group in groups for t in group.trajectories]
    count, longest = len(trajectories), max((len(t.turns) for t in trajectories), default=0)
    sizes = [len(group.trajectories) for group in groups]
    firsts = np.cumsum([0, *sizes]).tolist()
    forks = [
        (-1 if place < 0 else first + place, turn)
        for first, group in zip(firsts, groups, strict=False)
        for place, turn in group.forks()
    ]
    rewards = np.zeros((count, longest))
    for row, trajectory in enumerate(trajectories):
        rewards[row, : len(trajectory.turns)] = [turn.reward for turn in trajectory.turns]
    return Episodes(
        rewards=rewards,
        num_turns=np.array([len(t.turns) for t in trajectories], dtype=np.int64),
        group=np.repeat(np.arange(len(groups)), sizes),
        is_masked=np.array([t.is_masked for t in trajectories], dtype=bool),
        is_cut=np.array([t.stop is StopReason.CONTEXT for t in trajectories], dtype=bool),
        anchor=_anchors(trajectories, longest),
        fork_parent=np.array([parent for parent, _ in forks], dtype=np.int64),
        fork_turn=np.array([turn for _, turn in forks], dtype=np.int64),
    )


def _anchors(trajectories: Sequence[Trajectory], longest: int) -> NDArray[np.int64]:
    """Numbers for observations; equal texts have equal numbers."""
    numbers: dict[str, int] = {}
    anchors = np.full((len(trajectories), longest), -1)
    for row, trajectory in enumerate(trajectories):
        for turn, exchange in enumerate(trajectory.turns):
            anchors[row, turn] = numbers.setdefault(exchange.observation, len(numbers))
    return anchors
