"""JSONL files: one JSON value a line, each with the place that an error about it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import DataError


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """File and line, and the value there; empty lines are passed over.

    Raises:
        DataError: A line is no JSON; names file and line.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield where, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: no JSON: {error}") from error
