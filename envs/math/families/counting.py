"""Probabilities by counting."""

from __future__ import annotations

import random
from fractions import Fraction

from ..problem import RuledProblem

_COLOURS = ("red", "blue", "green", "white", "black", "yellow")


def probability(rng: random.Random, difficulty: int) -> RuledProblem:
    """Draws from a bag without putting back, or the sum of two dice; never 0 or 1."""
    question, work, chance = (_bag if rng.random() < 0.6 else _dice)(rng, difficulty)
    return RuledProblem(
        question=f"{question} Answer with a fraction.",
        answer=str(chance),
        work=work,
        rule="number",
    )


def _bag(rng: random.Random, difficulty: int) -> tuple[str, str, Fraction]:
    """All of `difficulty` drawn balls (three at most) have one colour."""
    drawn = min(difficulty, 3)
    colours = rng.sample(_COLOURS, 3)
    counts = [rng.randint(drawn, 6 + 3 * difficulty) for _ in colours]
    total, wanted = sum(counts), counts[0]
    chance, steps = Fraction(1), []
    for taken in range(drawn):
        after = chance * Fraction(wanted - taken, total - taken)
        steps.append(f"({chance})*({wanted - taken}/{total - taken})={after}")
        chance = after
    bag = f"{counts[0]} {colours[0]}, {counts[1]} {colours[1]} and {counts[2]} {colours[2]}"
    what = f"one ball is {colours[0]}" if drawn == 1 else f"{drawn} balls are all {colours[0]}"
    question = f"A bag holds {bag} balls. You draw without putting back. What is the probability "
    work = " ".join([f"{counts[0]}+{counts[1]}+{counts[2]}={total}", *steps])
    return f"{question}that {what}?", work, chance


def _dice(rng: random.Random, difficulty: int) -> tuple[str, str, Fraction]:
    """The sum of two dice is a number, or at least a number."""
    first, second = rng.randint(4, 6 + 2 * difficulty), rng.randint(4, 6 + 2 * difficulty)
    target = rng.randint(3, first + second)
    is_exact = rng.random() < 0.5
    if is_exact:
        ways = min(first, target - 1) - max(1, target - second) + 1
    else:
        ways = sum(
            second - max(1, target - face) + 1
            for face in range(1, first + 1)
            if target - face <= second
        )
    chance = Fraction(ways, first * second)
    wanted = f"exactly {target}" if is_exact else f"at least {target}"
    question = (
        f"You roll a die with {first} sides and a die with {second} sides, numbered from 1. "
        f"What is the probability that the sum is {wanted}?"
    )
    return question, f"{first}*{second}={first * second} {ways}/{first * second}={chance}", chance
