"""Checkpoints: the newest and the best stay, and what is not as it was written is passed over."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import StoreError
from turnhalle.training import checkpoint
from turnhalle.training.checkpoint import best_step, prune, what_is_broken
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.run_folder import RunFolder
from turnhalle.training.trainer import Trainer


def options(**changes: Any) -> TrainOptions:
    data: dict[str, Any] = {
        "env": {"id": "math"},
        "model": {"precision": "nf4", "device": "cpu", "lora_rank": 4},
        "rollout": {"tasks": 4, "group_size": 4, "max_new_tokens": 24},
        "evaluate": {"tasks": 10, "every": 0},
        "steps": 4,
        "checkpoint_every": 1,
        "seed": 1,
    }
    return TrainOptions.model_validate(data | changes)


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(given: TrainOptions, folder: Path, listener: Any = None, **rest: Any) -> None:
    trainer = Trainer(given, folder, listener or Silent(), **rest)
    try:
        trainer.run()
    finally:
        trainer.close()


def left_behind(folder: Path) -> tuple[dict[str, Any], bytes]:
    store = RunStore(folder, read_only=True)
    names = [n for n in store.metric_names() if not n.startswith("time/") and n != "parity"]
    metrics = {name: store.metrics(name) for name in names}
    store.close()
    return metrics, (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(options(), folder)
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """The run, as if it had been killed before its last export."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, symlinks=True)
    shutil.rmtree(folder / "adapter")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    def add(step: int) -> None:
        made = tmp_path / f"step-{step:06d}"
        made.mkdir()
        (made / "state.json").write_text("{}", encoding="utf-8")

    evaluations = [(0, 0.9), (1, 0.2), (3, 0.7), (5, 0.7)]
    for step in range(1, 7):
        add(step)
        prune(tmp_path, 2, [e for e in evaluations if e[0] < step])
    assert names(tmp_path) == ["best", "step-000003", "step-000005", "step-000006"]
    assert (tmp_path / "best").resolve() == tmp_path / "step-000003"
    prune(tmp_path, 1, [*evaluations, (6, 0.8)])
    assert names(tmp_path) == ["best", "step-000006"]
    assert (tmp_path / "best").resolve() == tmp_path / "step-000006"
    assert best_step([(0, 1.0)]) is None


def test_the_best_adapter_is_kept_though_no_checkpoint_was_due(tmp_path: Path) -> None:
    """An evaluation that is better than all before it keeps what it measured."""
    given = options(evaluate={"tasks": 10, "every": 1}, checkpoint_every=9, steps=5)
    train(given, tmp_path / "run")
    store = RunStore(tmp_path / "run", read_only=True)
    best = best_step(store.metrics("eval/success"))
    assert best is not None
    folder = tmp_path / "run" / "checkpoints"
    assert (folder / "best").resolve().name == f"step-{best:06d}"
    assert what_is_broken(folder / "best") is None
    train(options(start_from=str(folder / "best"), steps=1), tmp_path / "on")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("optimizer.safetensors", lambda file: file.write_bytes(file.read_bytes()[:-100])),
        ("adapter_model.safetensors", lambda file: file.write_bytes(file.read_bytes()[::-1])),
        ("optimizer.safetensors", lambda file: file.unlink()),
        ("state.json", lambda file: file.write_text('{"format": 2, "st', encoding="utf-8")),
        ("state.json", lambda file: file.write_text('{"files": {}, "step": 4}', encoding="utf-8")),
        ("state.json", lambda file: file.write_text('{"format": 2}', encoding="utf-8")),
        (
            "state.json",
            lambda file: file.write_text('{"format": 2, "step": 4, "files": 1}', encoding="utf-8"),
        ),
    ],
    ids=["truncated", "corrupt", "missing", "half-written", "no-format", "no-step", "no-files"],
)
def test_a_run_goes_on_from_the_last_checkpoint_that_is_whole(
    whole: Path, copied: Path, file: str, damage: Any
) -> None:
    newest = copied / "checkpoints" / "step-000004"
    assert what_is_broken(newest) is None
    damage(newest / file)
    assert what_is_broken(newest) == file
    listener = Noting()
    train(options(), copied, listener, resume=True)
    said = f"step-000004 is not as it was written ({file}); the run goes on from step 3"
    assert said in listener.notes
    events = RunStore(copied, read_only=True).events()
    assert (3, "broken_checkpoint", said) in events
    assert left_behind(copied) == left_behind(whole)
    assert what_is_broken(newest) is None  # written anew
    assert (copied / "checkpoints" / "broken-step-000004").is_dir()


@pytest.mark.parametrize(("measured", "best"), [([(2, 0.5), (4, 0.9)], 2), ([(4, 0.9)], None)])
def test_the_best_one_is_another_once_it_is_put_aside(
    measured: list[tuple[int, float]], best: int | None, tmp_path: Path
) -> None:
    """Else the link would name a folder that is not there; where no other was measured, none is."""
    folder = tmp_path / "checkpoints"
    for step in (2, 3, 4):
        (folder / f"step-{step:06d}").mkdir(parents=True)
        state = json.dumps({"format": 2, "step": step})
        (folder / f"step-{step:06d}" / "state.json").write_text(state, encoding="utf-8")
    prune(folder, 3, measured)
    assert (folder / "best").resolve().name == "step-000004"
    (folder / "step-000004" / "state.json").write_text("{}", encoding="utf-8")
    home = RunFolder(tmp_path, options(), resume=True)
    home.put_aside(measured)
    assert "broken-step-000004" in names(folder)
    if best is None:
        assert "best" not in names(folder)
    else:
        assert (folder / "best").resolve() == folder / f"step-{best:06d}"


def test_a_checkpoint_of_an_older_version_has_no_hashes_and_is_taken(copied: Path) -> None:
    newest = copied / "checkpoints" / "step-000004" / "state.json"
    state = json.loads(newest.read_text(encoding="utf-8"))
    assert state.pop("files").keys() >= {"adapter_model.safetensors", "optimizer.safetensors"}
    newest.write_text(json.dumps(state), encoding="utf-8")
    assert what_is_broken(newest.parent) is None
    train(options(steps=5), copied, resume=True)


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew_by_itself(copied: Path) -> None:
    for path in (copied / "checkpoints").glob("step-*"):
        (path / "optimizer.safetensors").unlink()
    before = names(copied / "checkpoints")
    with pytest.raises(StoreError, match=r"no checkpoint of .* is as it was written \(step-0"):
        Trainer(options(), copied, Silent(), resume=True)
    assert names(copied / "checkpoints") == before


def test_a_disk_that_is_full_leaves_the_last_good_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second checkpoint meets a limit on the size of files, as a disk meets its end."""
    folder, real, calls = tmp_path / "run", checkpoint._optimizer_state, [0]
    old = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(learner: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
        return real(learner)

    monkeypatch.setattr(checkpoint, "_optimizer_state", full)
    trainer = Trainer(options(), folder, Silent())
    try:
        with pytest.raises(StoreError, match=f"cannot write the checkpoint of step 2.*{folder}"):
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        trainer.close()
    assert names(folder / "checkpoints") == ["step-000001"]
    assert what_is_broken(folder / "checkpoints" / "step-000001") is None
    monkeypatch.undo()
    train(options(), folder, resume=True)
    assert left_behind(folder) == left_behind(whole)
