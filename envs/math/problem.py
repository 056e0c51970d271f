"""What a family of math tasks is, and what it draws."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypedDict


class Problem(TypedDict):
    """One drawn task."""

    question: str
    answer: str
    work: str
    """A worked solution: equations `left=right` with spaces between them, which our calculator can
    check; empty where there is nothing to compute."""


class RuledProblem(Problem):
    """A task that says how its answer is read."""

    rule: str
    """A name in `grading.RULES`."""


Family = Callable[[random.Random, int], RuledProblem]
"""Draws a task at a difficulty of at least 1; every number it needs comes from the RNG."""
