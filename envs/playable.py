"""What rollouts ask of an environment, wherever it lives."""

from __future__ import annotations

from typing import Any, Protocol, Self

from .core import StepInfo
from .tasks import Task


class Playable(Protocol):
    """A `TextEnv`, or one that is in a process of its own."""

    metadata: dict[str, Any]
    difficulty: int

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def task(self) -> Task:
        """The task of this episode."""
        ...

    def reset(self, *, options: dict[str, Any] | None = None) -> tuple[str, StepInfo]:
        """Start an episode."""
        ...

    def step(self, action: str) -> tuple[str, float, bool, bool, StepInfo]:
        """Take one turn."""
        ...

    def expert(self) -> str:
        """The oracle's action."""
        ...

    def fork(self) -> Self:
        """Another environment in the same state."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...
