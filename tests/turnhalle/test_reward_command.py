"""`turnhalle reward`, as people type it."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest


def write_pairs(path: Path, count: int, *, noise: bool = False) -> None:
    rng = random.Random(0)
    rows = []
    for number in range(count):
        good, bad = (f"{rng.choice(words)} {number}" for words in (["gladly"], ["whatever"]))
        chosen, rejected = (bad, good) if noise and number % 2 else (good, bad)
        rows.append({"prompt": f"q{number}", "chosen": chosen, "rejected": rejected})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.mark.parametrize("command", ["list", "check", "fit"])
def test_every_command_shows_an_example(command: str, run: Any) -> None:
    assert f"turnhalle reward {command}" in run("reward", command, "--help").out


def test_fit_prints_accuracy_and_calibration_and_writes_a_reward(run: Any, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", 60)
    said = run("reward", "fit", "pairs.jsonl", "--out", "taste")
    assert said.code == 0, said.err
    assert "accuracy [95 %]" in said.out
    assert "100 % [" in said.out
    assert "calibration error" in said.out
    assert "luck" not in said.out
    from turnhalle.envs.rewards.base import Sample
    from turnhalle.envs.rewards.kernel import KernelReward

    taste = KernelReward(tmp_path / "taste")
    assert (taste(Sample("gladly")) or 0) > 0.5 > (taste(Sample("whatever")) or 1)
    assert run("reward", "fit", "pairs.jsonl", "--out", "taste").code == 2
    for folder in ("rewards/pairs-1", "rewards/pairs-2"):
        assert folder in run("reward", "fit", "pairs.jsonl").out
        assert "ok" in run("reward", "check", "kernel", "--option", f"folder={folder}").out


def test_fit_knows_kernel_ridge_and_no_other_kind_by_mistake(run: Any, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", 60)
    fit = ("reward", "fit", "pairs.jsonl", "--out", "taste", "--kind")
    assert "did you mean 'kernel_ridge'" in run(*fit, "kernel_rigde").err
    assert "100 % [" in run(*fit, "kernel_ridge").out
    assert "ok" in run("reward", "check", "kernel", "--option", "folder=taste").out


def test_fit_says_when_it_learnt_nothing(run: Any, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", 60, noise=True)
    assert "This may be luck" in run("reward", "fit", "pairs.jsonl", "--out", "taste").out


def test_a_bad_row_is_one_clear_message(run: Any, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "a"}', encoding="utf-8")
    said = run("reward", "fit", "pairs.jsonl", "--out", "taste")
    assert said.code == 2
    assert "pairs.jsonl, line 1: field 'rejected' must be a text, it is missing" in said.err
    assert not (tmp_path / "taste").exists()


def test_a_file_in_the_way_is_said_before_anything_is_fitted(run: Any, tmp_path: Path) -> None:
    (tmp_path / "afile").touch()
    for out in ("afile", "afile/taste"):
        said = run("reward", "fit", "pairs.jsonl", "--out", out)
        assert said.code == 2
        assert f"{out} cannot be a folder" in said.err


def test_list_names_every_reward_with_what_it_does(run: Any) -> None:
    said = run("reward", "list")
    assert "numeric_distance" in said.out
    assert "1 where action and gold are the same text" in said.out


def test_check_passes_what_is_sound_and_names_what_is_not(run: Any, tmp_path: Path) -> None:
    assert "ok exact: 4 fixtures, 0 to 1" in run("reward", "check", "exact").out
    (tmp_path / "mine_to_check.py").write_text(
        "import turnhalle as th\n\n"
        "@th.reward(full=th.Sample('a'), zero=th.Sample('b'), malformed=th.Sample(''))\n"
        "def always(sample):\n    return 1.0\n",
        encoding="utf-8",
    )
    said = run("reward", "check", "mine_to_check:always")
    assert said.code == 1
    assert "FAILED always: zero: 'b' earned 1 instead of 0" in said.out
    assert "did you mean 'always'" in run("reward", "check", "mine_to_check:allways").err
    assert "no module named 'nowhere'" in run("reward", "check", "nowhere:x").err
    assert "did you mean 'exact'" in run("reward", "check", "exakt").err
    assert "reward 'judge' cannot be made" in run("reward", "check", "judge").err
    del sys.modules["mine_to_check"]


def test_check_takes_the_options_of_a_reward(run: Any) -> None:
    said = run("reward", "check", "cost", "--option", "price=0.1", "--option", "unit=minutes")
    assert "ok cost: 3 fixtures, -1 to 0" in said.out
    said = run("reward", "check", "turnhalle.envs.rewards.cost:Cost", "--option", "price=0.1")
    assert "ok cost" in said.out
    assert (
        "must be a finite number above 0"
        in run("reward", "check", "cost", "--option", "price=-1").err
    )
    assert "takes name=value" in run("reward", "check", "cost", "--option", "price").err
    assert (
        "reward 'exact' cannot be made"
        in run("reward", "check", "exact", "--option", "colour=red").err
    )
