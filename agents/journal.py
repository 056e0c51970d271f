"""A journal of a batch: the rollouts that are finished, for a run that is stopped in the middle.

One JSON object a line, written as each rollout ends, so that a kill leaves all but the last. A run
that computes exactly has no use for it: it plays the batch again, to the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from turnhalle.envs.errors import StoreError

from .core import Trajectory
from .episode import Job


class Journal:
    """What is finished of a batch that one adapter plays."""

    def __init__(self, file: Path, found: Iterable[Path], version: int) -> None:
        """Begin, or go on.

        Args:
            file: Where to write; made with the first rollout.
            found: Files of the same batch that are there already.
            version: Of the adapter that plays; rollouts of another one are not taken.
        """
        self._file = file
        self._known: dict[Job, Trajectory] = {}
        for path in found:
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(line, version)

    def find(self, job: Job) -> Trajectory | None:
        """The rollout of a job, where it is finished."""
        return self._known.get(job)

    def add(self, job: Job, trajectory: Trajectory) -> None:
        """Write a rollout down; one that failed for reasons of ours is to be played again.

        Raises:
            StoreError: The disk is full, or the folder cannot be written; says what to do.
        """
        if trajectory.is_masked:
            return
        line = json.dumps({"job": asdict(job), "trajectory": trajectory.to_json()})
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")  # what a kill left of the line before ends here
        except OSError as error:
            raise StoreError(
                f"cannot write {self._file}: {error.strerror}. Make room, and go on from the last "
                "checkpoint: turnhalle train --resume"
            ) from error

    def _take(self, line: str, version: int) -> None:
        try:
            written = json.loads(line)
        except ValueError:
            return  # empty, or the kill came while it was written
        trajectory = Trajectory.from_json(written["trajectory"])
        segments = [segment for turn in trajectory.turns for segment in turn.segments]
        if all(segment.adapter_version == version for segment in segments if segment.is_sampled):
            self._known[Job(**written["job"])] = trajectory
