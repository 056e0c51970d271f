"""The record of acting: segments of tokens make turns, turns a trajectory, trajectories a group."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import TaskError
from turnhalle.envs.tasks import Task

TRAJECTORY_SCHEMA = 2
"""Version of the JSON that `Trajectory.to_json` writes."""


@dataclass(slots=True)
class Segment:
    """Consecutive tokens of one origin: either all sampled by the policy or none."""

    token_ids: list[int]
    """`[C]`"""
    logprobs: list[float] | None = None
    """`[C]` float32: log-probs of the distribution sampled from; None where not sampled."""
    adapter_version: int = 0
    """The adapter that sampled; 0 is the base."""

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
    """Tokens of the observation, then those of the action; empty for policies without tokens."""
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
        """The trajectory as JSON, with the version of its schema."""
        return {"schema": TRAJECTORY_SCHEMA, **_adapter().dump_python(self, mode="json")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trajectory:
        """Inverse of `to_json`; reads version 1 too, whose turns told no faults.

        Raises:
            TaskError: The JSON was written by another version of the schema.
        """
        version = data.get("schema")
        if version not in (1, TRAJECTORY_SCHEMA):
            raise TaskError(
                f"trajectory schema {version!r}; this Turnhalle reads {TRAJECTORY_SCHEMA}"
            )
        return _adapter().validate_python({k: v for k, v in data.items() if k != "schema"})


@dataclass(slots=True)
class Group:
    """The rollouts of one task."""

    task: Task
    trajectories: list[Trajectory]


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Trajectory]:
    return TypeAdapter(Trajectory)
