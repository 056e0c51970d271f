"""Which Python a box may use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.interpreters import find


def python(folder: Path, version: str) -> str:
    """An interpreter that says that it is of another version."""
    path = folder / "python3"
    says = f"import sys; sys.version_info, sys.version = ({version}, 0), '{version}'"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S -c "{says}; exec(sys.argv[1])" "$4"\n')
    path.chmod(0o755)
    return str(path)


def test_a_python_that_lacks_what_the_guest_needs_is_refused(tmp_path: Path) -> None:
    old = python(tmp_path, "3, 9")
    with pytest.raises(SandboxUnavailableError, match=r"no Python 3\.10 .*: 3, 9"):
        find(old, None)


def test_the_oldest_python_that_the_guest_runs_in_is_taken(tmp_path: Path) -> None:
    oldest = python(tmp_path, "3, 10")
    assert find(oldest, None)[0] == oldest
