"""Repairs: a function of another family with a bug planted in it."""

from __future__ import annotations

import random
from dataclasses import replace

from ..problem import Draft, Family, finish
from .dynamic import edit, rising
from .lists import merge, runs, windows
from .numbers import clock, primes, recurrence
from .texts import brackets, cipher, words
from .worlds import islands, robot

_FAMILIES: tuple[Family, ...] = (
    brackets, cipher, clock, edit, islands, merge, primes, recurrence, rising, robot, runs, windows,
    words,
)  # fmt: skip


def repair(rng: random.Random, difficulty: int) -> Draft:
    """Find the bug: one of the near misses of the task is shown as its code."""
    draft = rng.choice(_FAMILIES)(rng, difficulty)
    # Only what the tests catch is a bug.
    broken = rng.choice(finish("repair", draft)["mistakes"])
    task = f"Repair this code. {draft.task}\n```python\n{broken}```"
    return replace(draft, task=task, tests_of=draft.task)
