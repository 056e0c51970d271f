"""Preference pairs: which of two answers to a prompt people preferred."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..jsonl import read_lines
from ..seeding import hash_position


class Pair(NamedTuple):
    """One judgement."""

    prompt: str
    chosen: str
    rejected: str


def read_pairs(path: Path) -> list[Pair]:
    """Read a JSONL file with the fields `prompt`, `chosen` and `rejected`.

    Raises:
        DataError: There is no such file, or a row cannot be used; names file, line and field.
    """
    return list(_read(path))


def hold_out(pairs: list[Pair], share: float = 0.2) -> tuple[list[Pair], list[Pair]]:
    """Split in training and held-out pairs by the hash of the prompt: no prompt is in both."""
    held_out = [pair for pair in pairs if hash_position(pair.prompt) < share]
    kept = set(held_out)
    return [pair for pair in pairs if pair not in kept], held_out


def fold_of(prompt: str, folds: int) -> int:
    """The fold of a prompt, by another hash than the one that holds pairs out."""
    return int(hash_position(f"fold of {prompt}") * folds)


def _read(path: Path) -> Iterator[Pair]:
    for where, row in read_lines(path):
        if not isinstance(row, dict):
            raise DataError(f"{where}: not a JSON object but {str(row)[:60]}")
        for field in Pair._fields:
            if not isinstance(row.get(field), str):
                given = f"is {row[field]!r}" if field in row else f"is missing; has {list(row)}"
                raise DataError(f"{where}: field {field!r} must be a text, it {given}")
        pair = Pair(row["prompt"], row["chosen"], row["rejected"])
        if pair.chosen == pair.rejected:
            raise DataError(f"{where}: field 'rejected' equals 'chosen'; drop the row")
        yield pair
