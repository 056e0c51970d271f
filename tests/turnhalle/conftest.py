"""Commands run in this process, as people type them."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from turnhalle.cli import main


class Said:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object, typed: str = "") -> Said:
        monkeypatch.setattr(sys, "argv", ["turnhalle", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return Said(code, captured.out, captured.err)

    return run
