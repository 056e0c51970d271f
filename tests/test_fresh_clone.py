"""The two commands, from a fresh clone in an empty home folder. Slow: it installs everything."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_make_train_does_everything_from_a_fresh_clone(tmp_path: Path) -> None:
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    kept = ("PATH", "LANG", "SSL_CERT_FILE")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
    environment["HOME"] = str(home)
    done = subprocess.run(
        ["make", "train"], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    gain = re.search(r"gain: \+(\d+) points", done.stdout)
    assert gain is not None
    assert int(gain[1]) >= 40
    assert (clone / "runs" / "tools-1" / "report.html").is_file()
    # Nothing is left outside the clone but pip's cache and the like.
    assert not list(home.glob("*turnhalle*"))
