"""`turnhalle runs` and `train --resume` where a run was killed early, or is of another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from turnhalle.agents.store import FILE, RunStore
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.run_folder import RunFolder
from turnhalle.training.trainer import Trainer


def begun(folder: Path, options: Any) -> None:
    """A run's store as far as its options; None was killed before."""
    store = RunStore(folder, create=True)
    if options is not None:
        store.put("options", options)
    store.close()


def test_a_run_that_had_not_begun_is_listed_beside_the_others(run: Any, tmp_path: Path) -> None:
    begun(tmp_path / "runs" / "early", None)
    begun(tmp_path / "runs" / "whole", TrainOptions().model_dump(mode="json"))
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / FILE).touch()
    said = run("runs")
    assert said.code == 0, said.err
    early, torn, whole = (line for line in said.out.splitlines() if "runs/" in line)
    assert "not begun" in early
    assert "unreadable: the run's store cannot be read" in torn
    assert "0 of 30" in whole


@pytest.mark.parametrize("command", [["runs", "run"], ["train", "--resume", "run"],
                                     ["train", "--env", "math", "--out", "run"],
                                     ["bench", "--env", "math", "--policy", "./run"]])  # fmt: skip
def test_what_to_do_with_a_run_that_had_not_begun_is_said(
    command: list[str], run: Any, tmp_path: Path
) -> None:
    begun(tmp_path / "run", None)
    said = run(*command)
    assert said.code == 2
    assert said.err == (
        "error: the run in run was stopped before it had begun, and holds nothing; remove the "
        "folder to begin there, or give another one\n"
    )


def test_options_that_this_version_does_not_take_are_said(run: Any, tmp_path: Path) -> None:
    options = TrainOptions().model_dump(mode="json")
    begun(tmp_path / "run", options | {"overlong": {"buffer": 3}})
    said = run("train", "--resume", "run")
    assert said.code == 2
    assert "the run in run was begun with options that this Turnhalle does not take" in said.err
    assert "overlong.buffer = 3" in said.err
    begun(tmp_path / "other", {**options, "model": {"lora_rang": 8}})
    said = run("bench", "--env", "math", "--policy", "./other")
    assert (said.code, "lora_rang = 8" in said.err) == (2, True)
    assert "tools" in run("runs", "run").out  # it can be looked at all the same


def test_a_run_killed_as_soon_as_its_store_is_there_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: RunFolder, start: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "keep_start", killed)
    options = TrainOptions.model_validate({"env": {"id": "math"}, "model": {"device": "cpu"}})
    with pytest.raises(KeyboardInterrupt):
        Trainer(options, tmp_path / "run", Silent())
    store = RunStore(tmp_path / "run", read_only=True)
    assert TrainOptions.model_validate(store.get("options")) == options
    store.close()
