"""Who is told how a run goes; displays implement this, training knows nothing of terminals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from turnhalle.agents.evaluate import Evaluation


class Listener(Protocol):
    """Hears about a run while it runs."""

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """Part of a step or an evaluation is done."""
        ...

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step is done."""
        ...

    def evaluation(self, step: int, result: Evaluation) -> None:
        """The policy was evaluated after a step; step 0 is before training."""
        ...


class Silent:
    """Hears and says nothing."""

    def note(self, text: str) -> None:
        """Ignore."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Ignore."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Ignore."""

    def evaluation(self, step: int, result: Evaluation) -> None:
        """Ignore."""
