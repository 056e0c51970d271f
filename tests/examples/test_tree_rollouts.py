"""Forked episodes share their beginning, and a run trains on them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "tree_rollouts.py"


def test_siblings_share_tokens_and_are_trained_on() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--steps", "1"], capture_output=True, text=True, check=True
    )
    shared = re.search(r"(\d+) tokens of (\d+) episodes are (\d+) nodes", done.stdout)
    assert shared is not None, done.stdout
    tokens, episodes, nodes = map(int, shared.groups())
    assert episodes > 4  # at least one of the four was forked
    assert nodes < tokens
    assert "step 1: success" in done.stdout
    assert "1 steps on siblings" in done.stdout
