"""Problems from a file or a dataset: rows with a question and a worked answer.

The format is GSM8K's: `answer` ends with `#### gold` (another marker that grading knows will do),
and `<<48/2=24>>` marks a calculation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..jsonl import file_key, read_lines
from .answers import extract
from .grading import RULES, is_gold
from .problem import Problem

_ANNOTATION = re.compile(r"<<[^<>]*>>")
_FIELDS = ("question", "answer")
Rows = tuple[tuple[int, Problem], ...]
"""Number of calculations in the solution, and the problem."""


def read_jsonl(path: Path, rule: str) -> Rows:
    """The rows of a JSONL file, with golds that the rule can read; an unchanged file is read once.

    Raises:
        ConfigError: There is no such file, or no row in it.
        DataError: A row lacks a field or a readable answer; says which.
    """
    return _read_jsonl(rule, *file_key(path))


@lru_cache(maxsize=8)
def _read_jsonl(rule: str, path: Path, changed_ns: int, size_bytes: int) -> Rows:
    return _problems(read_lines(path), str(path), rule)


@lru_cache(maxsize=8)
def load_dataset(name: str, subset: str | None, rule: str) -> dict[str, Rows]:
    """The rows of a dataset by part; of the hub, or of a folder that `datasets` can read.

    Raises:
        ConfigError: `datasets` is missing, or the dataset cannot be reached.
        DataError: A row lacks a field or a readable answer; says which.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"dataset={name!r} is read by the package datasets: pip install datasets; "
            "or give path=..., a JSONL file"
        ) from error
    try:
        parts = datasets.load_dataset(name, subset)
    except Exception as error:  # network, hub, format: dozens of types, none of them ours
        raise ConfigError(
            f"cannot load dataset={name!r} (subset={subset!r}): {type(error).__name__}: {error}. "
            "Without network, give path=..., a JSONL file"
        ) from error
    return {
        part: _problems(
            ((f"{name}, {part}, row {number}", row) for number, row in enumerate(parts[part])),
            f"{name}, {part},",
            rule,
        )
        for part in sorted(parts)
    }


def _problems(rows: Iterable[tuple[str, Any]], source: str, rule: str) -> Rows:
    found = tuple(_problem(where, row, rule) for where, row in rows)
    if not found:
        raise ConfigError(f"{source} holds no rows; each has {_fields()}")
    return found


def _problem(where: str, row: Any, rule: str) -> tuple[int, Problem]:
    for field in _FIELDS:
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            has = ", ".join(map(repr, row)) if isinstance(row, dict) else type(row).__name__
            raise DataError(f"{where}: no text in field {field!r} (has {has}); need {_fields()}")
    solution, gold = row["answer"], extract(row["answer"])
    if not is_gold(gold, RULES[rule]):
        raise DataError(
            f"{where}: field 'answer' must end with #### and what rule {rule!r} can read, "
            f"got {gold[:60]!r}; another rule: rule=..., one of {', '.join(RULES)}"
        )
    work = _ANNOTATION.sub("", solution.rpartition("####")[0]).strip()
    problem = Problem(question=row["question"], answer=gold, work=work)
    return len(_ANNOTATION.findall(solution)), problem


def _fields() -> str:
    return " and ".join(repr(field) for field in _FIELDS)
