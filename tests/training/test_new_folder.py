"""Folders to write are refused before anything long starts, and nothing is made by asking."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from turnhalle.envs.errors import ConfigError, StoreError
from turnhalle.training.new_folder import require_new
from turnhalle.training.options import TrainOptions
from turnhalle.training.prime import PrimeOptions, prime
from turnhalle.training.progress import Silent
from turnhalle.training.run_folder import RunFolder


def test_a_folder_that_is_not_there_or_empty_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_new(tmp_path)
    require_new(tmp_path / "a" / "b")
    monkeypatch.chdir(tmp_path)
    require_new(Path("a/b"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/run", "file/deep/run"])
def test_a_file_in_the_way_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = f"{name} cannot be a folder: .*file is none"
    with pytest.raises(ConfigError, match=said):
        RunFolder(tmp_path / name, TrainOptions(), resume=False)
    with pytest.raises(ConfigError, match=said):
        prime(PrimeOptions(), tmp_path / name, Silent())


def test_a_link_to_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="link is none"):
        require_new(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="run cannot be written"):
        require_new(tmp_path / "run")


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(StoreError, match=r"not empty; give another folder, or resume"):
        require_new(tmp_path, ", or resume it")
