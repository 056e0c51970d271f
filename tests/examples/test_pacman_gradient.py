"""The walk through one Pac-Man episode says what it promises."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "pacman_gradient.py"


def test_one_episode_is_followed_from_its_rewards_to_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("pacman_gradient", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pacman_gradient", module)
    spec.loader.exec_module(module)
    picture = tmp_path / "picture.svg"
    monkeypatch.setattr(sys, "argv", ["pacman_gradient.py", "--plot", str(picture)])
    module.main()
    said = capsys.readouterr().out
    for word in ("Rewards, and returns to go", "Baselines and advantages", "REINFORCE", "GRPO"):
        assert word in said
    rows = [line.split() for line in said.splitlines() if line.startswith("all ")]
    ratio, outside, kl = rows[0][1:4]
    assert float(ratio) > 0
    assert outside.endswith("%")
    assert float(kl) > 0  # the update moved the policy
    assert "<svg" in picture.read_text(encoding="utf-8")
