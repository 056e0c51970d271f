"""Procedural families of math tasks: each draws a question, its answer, and a worked solution."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypedDict


class Problem(TypedDict):
    """One drawn task."""

    question: str
    answer: str
    work: str
    """A worked solution without the final answer line; what the oracle shows."""


Family = Callable[[random.Random, int], Problem]


def chain(rng: random.Random, difficulty: int) -> Problem:
    """Additions and subtractions in a row, two steps at difficulty 1; no result is negative."""
    limit = 50 * difficulty
    total = rng.randint(1, limit - 1)
    question, steps = str(total), []
    for _ in range(difficulty + 1):
        is_sum = total == 0 or rng.random() < 0.5
        operand = rng.randint(1, limit - 1) if is_sum else rng.randint(1, total)
        result = total + operand if is_sum else total - operand
        sign = "+" if is_sum else "-"
        question += f"{sign}{operand}"
        steps.append(f"{total}{sign}{operand}={result}")
        total = result
    return Problem(question=question, answer=str(total), work=" ".join(steps))


FAMILIES: dict[str, Family] = {"chain": chain}
