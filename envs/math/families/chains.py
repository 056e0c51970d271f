"""Additions and subtractions in a row: the tasks of `Math-v0`."""

from __future__ import annotations

import random

from ..problem import Problem, RuledProblem


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


def running_total(rng: random.Random, difficulty: int) -> RuledProblem:
    """The same, asked in words: a total that changes step by step, and never ends at zero."""
    drawn = chain(rng, difficulty)
    while drawn["answer"] == "0":
        drawn = chain(rng, difficulty)
    return {**drawn, "question": f"Compute {drawn['question']}.", "rule": "integer"}
