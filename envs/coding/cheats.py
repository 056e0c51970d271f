"""Code that passes graders which trust it: near misses of every task, by attack number.

Each was seen in training runs or fools a public grader. None of it does what a task asks, so none
may ever pass.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def _read() -> dict[str, dict[str, str]]:
    return tomllib.loads((files(__package__) / "cheats.toml").read_text(encoding="utf-8"))


def cheats() -> list[str]:
    """The names of those that end at once."""
    return list(_read()["cheats"])


def slow_cheats() -> list[str]:
    """The names of those that take a run to its limits."""
    return list(_read()["slow"])


def cheat(name: str, entry: str) -> str:
    """The code of a cheat for a function; a program has none, so any name will do."""
    found = _read()["cheats"] | _read()["slow"]
    return found[name].replace("{entry}", entry or "main")
