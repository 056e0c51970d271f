"""The folder of a run: where it begins or goes on, its checkpoints, and what it leaves behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from turnhalle.agents.adapters import Snapshot
from turnhalle.envs.errors import StoreError

from .checkpoint import checkpoint_state, list_checkpoints, save_checkpoint
from .learner import Learner

_REFERENCE = "reference"


class RunFolder:
    """One run, one folder."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Find the last checkpoint of a run that goes on.

        Raises:
            StoreError: A new run in a folder that is not empty.
        """
        self.path = path
        self.checkpoint: Path | None = None
        """What to go on from; None begins."""
        if resume:
            found = list_checkpoints(path / "checkpoints")
            self.checkpoint = found[-1] if found else None
        elif path.exists() and any(path.iterdir()):
            raise StoreError(
                f"{path} exists and is not empty; give another folder, or "
                f"turnhalle train --resume {path}"
            )

    def state(self) -> dict[str, Any]:
        """What the checkpoint says of the run; of one that begins, its first step."""
        return {"step": 0} if self.checkpoint is None else checkpoint_state(self.checkpoint)

    def start(self, given: str | None) -> Path | None:
        """The adapter that training starts from: the run's own copy, once it has one."""
        kept = self.path / _REFERENCE
        return None if given is None else kept if kept.exists() else Path(given)

    def keep_start(self, start: Path | None) -> None:
        """Copy the adapter that training starts from, so that the run depends on nothing else."""
        kept = self.path / _REFERENCE
        if start is not None and not kept.exists():
            partial = self.path / f".{_REFERENCE}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            _copy_adapter(start, partial)
            partial.rename(kept)

    def save(
        self, state: dict[str, Any], learner: Learner, behind: Snapshot | None, keep: int
    ) -> Path:
        """Write a checkpoint."""
        return save_checkpoint(self.path / "checkpoints", state, learner, behind, keep)

    def export(self) -> Path:
        """Copy the adapter of the last checkpoint to where people look for it."""
        adapter = self.path / "adapter"
        adapter.mkdir(exist_ok=True)
        _copy_adapter(list_checkpoints(self.path / "checkpoints")[-1], adapter)
        return adapter


def _copy_adapter(source: Path, target: Path) -> None:
    for path in source.glob("adapter_*"):
        shutil.copy2(path, target / path.name)
