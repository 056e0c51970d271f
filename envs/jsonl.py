"""JSONL files: one JSON value a line, each with the place that an error about it names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import DataError


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """File and line, and the value there; empty lines are passed over. Reads `.gz`, too.

    Raises:
        DataError: A line is no JSON; names file and line.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield where, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: no JSON: {error}") from error
