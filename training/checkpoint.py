"""Checkpoints: adapters, critic, optimizer and position; written whole or not at all.

A checkpoint is a folder of safetensors and JSON, written under a temporary name and renamed, with
the hash of every file. All random streams of a run are derived by hash from its seed and the step,
so none has to be saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from turnhalle.agents import adapters
from turnhalle.agents.adapters import Snapshot
from turnhalle.envs.errors import StoreError

from .learner import Learner

_STATE = "state.json"
_OPTIMIZER = "optimizer.safetensors"
_CRITIC = "critic.safetensors"
_BEHIND = "behind.safetensors"
BEST = "best"
_FORMAT = 2


def save_checkpoint(
    folder: Path, state: dict[str, Any], learner: Learner, behind: Snapshot | None
) -> Path:
    """Write `folder/step-N` unless it is there.

    Args:
        folder: Where checkpoints lie.
        state: `step`, and whatever else the run must know to go on; JSON.
        learner: Adapter, critic and optimizer.
        behind: The adapter that the next batch was begun with, where it is an older one.

    Raises:
        StoreError: It cannot be written, such as on a full disk; those before are as they were.
    """
    final = folder / f"step-{state['step']:06d}"
    if (final / _STATE).is_file():
        return final
    temporary = folder / f".{final.name}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write(temporary, state, learner, behind)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(
            f"cannot write the checkpoint of step {state['step']}: {error}. Those before are as "
            f"they were; once there is room, go on with: turnhalle train --resume {folder.parent}"
        ) from error
    return final


def _write(
    temporary: Path, state: dict[str, Any], learner: Learner, behind: Snapshot | None
) -> None:
    adapters.save(learner.lm, temporary)
    save_file(_optimizer_state(learner), temporary / _OPTIMIZER)
    if learner.critic is not None:
        save_file(learner.critic.state_dict(), temporary / _CRITIC)
    if behind is not None:
        save_file(dict(behind.tensors), temporary / _BEHIND)
        state = state | {"behind": behind.version}
    digests = {path.name: _digest(path) for path in sorted(temporary.iterdir())}
    text = json.dumps({"format": _FORMAT, "files": digests, **state})
    (temporary / _STATE).write_text(text, encoding="utf-8")
    for path in [*temporary.iterdir(), temporary]:
        _sync(path)


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).is_file())


def what_is_broken(checkpoint: Path) -> str | None:
    """The file of a checkpoint that is not as it was written; None where all are."""
    try:
        state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        _ = state["format"], int(state["step"])
        digests = dict(state.get("files", {}))  # older versions wrote none
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return _STATE  # no JSON, or other JSON than was written
    for name, digest in digests.items():
        if not (checkpoint / name).is_file() or _digest(checkpoint / name) != digest:
            return str(name)
    return None


def prune(folder: Path, keep: int, evaluations: Sequence[tuple[int, float]]) -> None:
    """Drop all checkpoints but the newest ones and the best, which the link `best` names.

    Args:
        folder: Where checkpoints lie.
        keep: How many of the newest stay.
        evaluations: Step and success.
    """
    checkpoints = list_checkpoints(folder)
    kept = [*checkpoints[-keep:], link_best(folder, evaluations)]
    for path in checkpoints:
        if path not in kept:
            shutil.rmtree(path)


def link_best(folder: Path, evaluations: Sequence[tuple[int, float]]) -> Path | None:
    """Let the link `best` name the best checkpoint; where none was evaluated, there is no link."""
    by_step = {int(path.name.removeprefix("step-")): path for path in list_checkpoints(folder)}
    best = best_step([(step, success) for step, success in evaluations if step in by_step])
    if best is None:
        (folder / BEST).unlink(missing_ok=True)
        return None
    _link(folder / BEST, by_step[best].name)
    return by_step[best]


def best_step(evaluations: Sequence[tuple[int, float]]) -> int | None:
    """The first step of the highest success; the start, step 0, is none of training's."""
    trained = [(success, -step) for step, success in evaluations if step]
    return -max(trained)[1] if trained else None


def _link(link: Path, target: str) -> None:
    """Let a link name another folder beside it, at once."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    temporary = link.with_name(f".{link.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def checkpoint_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given: `step`, and what else there was.

    Raises:
        StoreError: It was written by another version.
    """
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    if state["format"] != _FORMAT:
        raise StoreError(f"{checkpoint} has format {state['format']}, this reads {_FORMAT}")
    return state


def load_behind(checkpoint: Path) -> Snapshot | None:
    """The adapter that the next batch was begun with; None where it is the checkpoint's own."""
    version = checkpoint_state(checkpoint).get("behind")
    return None if version is None else Snapshot(version, load_file(checkpoint / _BEHIND))


def load_learner(checkpoint: Path, learner: Learner) -> None:
    """Restore optimizer and critic; the adapter is loaded with the model."""
    if learner.critic is not None:
        learner.critic.load_state_dict(load_file(checkpoint / _CRITIC))
    saved = load_file(checkpoint / _OPTIMIZER, device=str(learner.lm.device))
    for name, parameter in learner.trained().items():
        state = {
            key: saved[f"{name}/{key}"]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"{name}/{key}" in saved
        }
        if state:
            # Adam keeps its step count on the CPU.
            learner.optimizer.state[parameter] = state | {"step": state["step"].cpu()}


def _optimizer_state(learner: Learner) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.contiguous()
        for name, parameter in learner.trained().items()
        for key, value in learner.optimizer.state.get(parameter, {}).items()
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
