"""JSONL files of tasks: one JSON value a line, each with the place that an error about it names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError, DataError

Row = TypeVar("Row")


def data_file(option: str, given: str | Path | None) -> Path | None:
    """The file that an option names; None stays None.

    Raises:
        ConfigError: There is no such file.
    """
    path = None if given is None else Path(given)
    if path is not None and not path.is_file():
        raise ConfigError(f"no file {str(path)!r}; {option} must be a JSONL file")
    return path


def file_key(path: Path) -> tuple[Path, int, int]:
    """What a cache of a file's rows is kept by: another for another file, or after a change.

    Raises:
        ConfigError: There is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"no file {str(path)!r} to read rows from")
    status = path.stat()
    return path.resolve(), status.st_mtime_ns, status.st_size


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """File and line, and the value there; empty lines are passed over. Reads `.gz`, too.

    Raises:
        DataError: There is no such file, or a line is no JSON; names file and line.
    """
    if not path.is_file():
        raise DataError(f"no file {path}; it needs one JSON value a line")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                try:
                    yield where, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where}: no JSON: {error}") from error


def not_held_out(
    rows: Iterable[Row], held: Iterable[Row], question: Callable[[Row], str]
) -> tuple[Row, ...]:
    """The rows whose question, but for white space around it, is that of no held-out row.

    Raises:
        ConfigError: None is left.
    """
    asked = {question(row).strip() for row in held}
    found = tuple(row for row in rows if question(row).strip() not in asked)
    if not found:
        raise ConfigError("every training row is a test row too; path must be another file")
    return found
