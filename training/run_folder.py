"""The folder of a run: where it begins or goes on, its checkpoints, and what it leaves behind."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from turnhalle.agents.adapters import Snapshot
from turnhalle.agents.saved import not_begun, read_options
from turnhalle.agents.store import FILE, RunStore
from turnhalle.envs.errors import ConfigError, StoreError

from .checkpoint import (
    checkpoint_state,
    link_best,
    list_checkpoints,
    prune,
    save_checkpoint,
    what_is_broken,
)
from .learner import Learner
from .new_folder import require_new
from .options import TrainOptions
from .stages import STAGES_FILE

_REFERENCE = "reference"


class RunFolder:
    """One run, one folder."""

    def __init__(self, path: Path, options: TrainOptions, *, resume: bool) -> None:
        """Find the last good checkpoint of a run that goes on.

        Raises:
            StoreError: A new run in a folder that is not empty, or all checkpoints are broken.
            ConfigError: Other options than those that the run was begun with, options that this
                version does not take, or a folder that cannot be made.
        """
        self.path, self._checkpoints = path, path / "checkpoints"
        self.checkpoint: Path | None = None
        """What to go on from; None begins."""
        self.broken: dict[Path, str] = {}
        """Newer checkpoints, and what of each is not as it was written."""
        if resume:
            self._require(options)
            self.checkpoint = self._last_good()
        elif (path / FILE).is_file() and self._saved() is None:
            raise not_begun(path)
        else:
            require_new(path, f", or turnhalle train --resume {path}")

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

    def put_aside(self, evaluations: list[tuple[int, float]]) -> None:
        """Rename broken checkpoints, so that the run writes them again; none of them is the best.

        Args:
            evaluations: Step and success.
        """
        for path in self.broken:
            aside = path.with_name(f"broken-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        if self.broken:
            link_best(self._checkpoints, evaluations)

    def save(self, state: dict[str, Any], learner: Learner, behind: Snapshot | None) -> None:
        """Write a checkpoint.

        Raises:
            StoreError: It cannot be written.
        """
        save_checkpoint(self._checkpoints, state, learner, behind)

    def prune(self, keep: int, evaluations: list[tuple[int, float]]) -> None:
        """Drop all checkpoints but the newest ones and the best."""
        prune(self._checkpoints, keep, evaluations)

    def export(self) -> Path:
        """Copy the adapter of the last checkpoint to where people look for it."""
        adapter = self.path / "adapter"
        adapter.mkdir(exist_ok=True)
        _copy_adapter(list_checkpoints(self._checkpoints)[-1], adapter)
        return adapter

    def _require(self, options: TrainOptions) -> None:
        """Refuse to go on with other options than those of the run; it may be given other steps.

        Raises:
            ConfigError: Names what differs, or what this version does not take.
        """
        if not (self.path / FILE).is_file():
            return
        saved = self._saved()
        if saved is None:
            return  # it was stopped before it had written them
        begun = read_options(TrainOptions, saved, self.path).model_dump(mode="json")
        begun["steps"] = options.steps
        for name, value in options.model_dump(mode="json").items():
            if value != begun[name]:
                raise ConfigError(
                    f"a resumed run keeps its options, only its steps may change: {name} was "
                    f"{begun[name]}, and now is {value}"
                )

    def _saved(self) -> Any:
        """The options that the run wrote down, if any."""
        with closing(RunStore(self.path, read_only=True)) as store:
            return store.get("options")

    def _last_good(self) -> Path | None:
        found = list_checkpoints(self._checkpoints)
        for path in reversed(found):
            what = what_is_broken(path)
            if what is None:
                return path
            self.broken[path] = what
        if found:
            names = ", ".join(f"{path.name}/{what}" for path, what in self.broken.items())
            raise StoreError(
                f"no checkpoint of {self.path} is as it was written ({names}); remove "
                f"{self._checkpoints} to begin the run anew"
            )
        return None


def _copy_adapter(source: Path, target: Path) -> None:
    for path in [*source.glob("adapter_*"), *source.glob(STAGES_FILE)]:
        shutil.copy2(path, target / path.name)
