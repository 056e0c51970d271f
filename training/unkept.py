"""The store of the ranks that keep none: the first one writes down what all of them did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from turnhalle.agents.core import Trajectory
from turnhalle.agents.store import RunStore


class Unkept(RunStore):
    """Takes everything and keeps nothing; only the first rank may be asked what there is."""

    def __init__(self) -> None:
        """Open no file."""

    def close(self) -> None:
        """Nothing is open."""

    def put(self, key: str, value: Any) -> None:
        """Ignore."""

    def write_step(
        self,
        step: int,
        metrics: Mapping[str, float],
        episodes: Iterable[tuple[str, Trajectory, Sequence[float] | None]] = (),
    ) -> None:
        """Ignore."""

    def write_event(self, step: int, kind: str, text: str) -> None:
        """Ignore."""

    def forget_after(self, step: int) -> None:
        """Ignore."""
