"""Checkpoints: adapters, critic, optimizer and position; written whole or not at all.

A checkpoint is a folder of safetensors and JSON, written under a temporary name and renamed. All
random streams of a run are derived by hash from its seed and the step, so none has to be saved.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from turnhalle.agents import adapters
from turnhalle.agents.adapters import Snapshot
from turnhalle.envs.errors import StoreError

from .learner import Learner

_STATE = "state.json"
_OPTIMIZER = "optimizer.safetensors"
_CRITIC = "critic.safetensors"
_BEHIND = "behind.safetensors"
_FORMAT = 2


def save_checkpoint(
    folder: Path, state: dict[str, Any], learner: Learner, behind: Snapshot | None, keep: int
) -> Path:
    """Write `folder/step-N` unless it is there, and drop all but the newest `keep`.

    Args:
        folder: Where checkpoints lie.
        state: `step`, and whatever else the run must know to go on; JSON.
        learner: Adapter, critic and optimizer.
        behind: The adapter that the next batch was begun with, where it is an older one.
        keep: How many checkpoints stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state['step']:06d}"
    if (final / _STATE).is_file():
        return final
    temporary = folder / f".{final.name}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    adapters.save(learner.lm, temporary)
    save_file(_optimizer_state(learner), temporary / _OPTIMIZER)
    if learner.critic is not None:
        save_file(learner.critic.state_dict(), temporary / _CRITIC)
    if behind is not None:
        save_file(dict(behind.tensors), temporary / _BEHIND)
        state = state | {"behind": behind.version}
    text = json.dumps({"format": _FORMAT, **state})
    (temporary / _STATE).write_text(text, encoding="utf-8")
    for path in [*temporary.iterdir(), temporary]:
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(folder)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).is_file())


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
