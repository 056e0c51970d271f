"""The record of acting: segments of tokens make turns, turns a trajectory, trajectories a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import TaskError
from turnhalle.envs.tasks import Task

TRAJECTORY_SCHEMA = 4
"""Newest version of the JSON of trajectories. Version 4 has fields for what top-k and top-p kept,
version 3 for branches and forks; trajectories without them are written as version 2."""


@dataclass(slots=True)
class Segment:
    """Consecutive tokens of one origin: either all sampled by the policy or none."""

    token_ids: list[int]
    """`[C]`"""
    logprobs: list[float] | None = None
    """`[C]` float32: log-probs of the distribution sampled from; None where not sampled."""
    adapter_version: int = 0
    """The adapter that sampled; 0 is the base."""
    parent: int | None = None
    """Where a branch begins: the position, in the branch before, of the token that this segment
    follows (-1 for none). None follows the segment before."""
    kept_mass: list[float] | None = None
    """`[C]` float32: how probable all tokens together were that top-k and top-p kept;
    `logprobs + log(kept_mass)` are the log-probs before. None where nothing was left out."""

    @property
    def is_sampled(self) -> bool:
        """Did the policy sample these tokens?"""
        return self.logprobs is not None


@dataclass(slots=True)
class Turn:
    """One exchange: what was seen, what was done, what it earned."""

    observation: str
    action: str
    """In the environment's canonical form."""
    reward: float
    parts: dict[str, float] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    """Tokens of the observation, then those of the action, which come last; summaries that the
    policy wrote for itself stand before. Empty for policies without tokens."""
    faults: dict[str, int] = field(default_factory=dict)
    """Tool calls of the action that went wrong, counted by kind."""


@dataclass(slots=True)
class Trajectory:
    """One episode, from the first observation to the stop; replayable from task and actions."""

    task: Task
    sample: int
    """Number of the rollout within its group."""
    turns: list[Turn] = field(default_factory=list)
    final_observation: str = ""
    success: bool = False
    terminated: bool = False
    truncated: bool = False
    stop: StopReason = StopReason.CANCELLED
    error: str | None = None
    """What went wrong, for episodes that failed for reasons of ours; such episodes are masked."""
    fork_parent: int | None = None
    """Number of the rollout that this one was forked from, within its group."""
    fork_turn: int | None = None
    """The first turn of its own; those before are the parent's."""

    @property
    def episode_return(self) -> float:
        """Sum of the rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def is_masked(self) -> bool:
        """Does the episode say nothing about the policy?"""
        return self.stop in (
            StopReason.ENV_ERROR,
            StopReason.OUTSIDE_ERROR,
            StopReason.TIMEOUT,
            StopReason.ENGINE_ERROR,
            StopReason.CANCELLED,
        )

    @property
    def num_sampled(self) -> int:
        """Number of sampled tokens."""
        return sum(len(s.token_ids) for t in self.turns for s in t.segments if s.is_sampled)

    @property
    def num_tokens(self) -> int:
        """Number of all tokens."""
        return sum(len(s.token_ids) for t in self.turns for s in t.segments)

    def to_json(self) -> dict[str, Any]:
        """The trajectory as JSON, with the lowest version of the schema that can say it."""
        data = _adapter().dump_python(self, mode="json")
        segments = [segment for turn in data["turns"] for segment in turn["segments"]]
        is_tree = self.fork_parent is not None or any(s["parent"] is not None for s in segments)
        is_truncated = any(s["kept_mass"] is not None for s in segments)
        unused = [] if is_truncated else ["kept_mass"]
        unused += [] if is_tree else ["fork_parent", "fork_turn", "parent"]
        for part in (data, *segments):
            for name in unused:
                part.pop(name, None)
        return {"schema": 4 if is_truncated else 3 if is_tree else 2, **data}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trajectory:
        """Inverse of `to_json`; reads version 1 too, whose turns told no faults.

        Raises:
            TaskError: The JSON was written by another version of the schema.
        """
        version = data.get("schema")
        if version not in range(1, TRAJECTORY_SCHEMA + 1):
            raise TaskError(
                f"trajectory schema {version!r}; this Turnhalle reads 1 to {TRAJECTORY_SCHEMA}"
            )
        return _adapter().validate_python({k: v for k, v in data.items() if k != "schema"})


@dataclass(slots=True)
class Group:
    """The rollouts of one task."""

    task: Task
    trajectories: list[Trajectory]

    def forks(self) -> list[tuple[int, int]]:
        """Of each trajectory the place of its fork parent and the first turn of its own.

        A parent that is masked or gone is passed over, up to one that says something about the
        policy; where there is none the place is -1, and every turn is the trajectory's own.
        """
        places = {t.sample: place for place, t in enumerate(self.trajectories)}
        found: list[tuple[int, int]] = []
        for trajectory in self.trajectories:
            sample, first = trajectory.fork_parent, trajectory.fork_turn or 0
            while sample in places and self.trajectories[places[sample]].is_masked:
                parent = self.trajectories[places[sample]]
                sample, first = parent.fork_parent, min(first, parent.fork_turn or 0)
            found.append((places[sample], first) if sample in places else (-1, 0))
        return found


def num_common(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Number of tokens, or characters, that two sequences begin with alike."""
    shorter = min(len(a), len(b))
    if a[:shorter] == b[:shorter]:
        return shorter
    return next(i for i in range(shorter) if a[i] != b[i])


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Trajectory]:
    return TypeAdapter(Trajectory)
