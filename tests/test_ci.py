"""What CI stands on: a missing tool is said, and is a failure where it must be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOBODY = 65534


@pytest.mark.parametrize(("is_ci", "code"), [(False, 7), (True, 1)])
def test_without_a_daemon_tests_are_skipped_aloud_but_not_in_ci(is_ci: bool, code: int) -> None:
    environment = os.environ | {"DOCKER_HOST": "unix:///none.sock", "TURNHALLE_CI": "1"}
    if not is_ci:
        del environment["TURNHALLE_CI"]
    done = subprocess.run(
        [ROOT / ".ci" / "with-sandbox", "sh", "-c", "echo ran; exit 7"],
        env=environment,
        capture_output=True,
        text=True,
        user=NOBODY if os.geteuid() == 0 else None,  # root would start a daemon
    )
    assert done.returncode == code, done.stderr
    assert "so its tests are skipped" in done.stderr
    assert done.stdout == ("" if is_ci else "ran\n")
