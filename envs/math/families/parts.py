"""Parts of a whole: fractions, percentages, unit rates."""

from __future__ import annotations

import random
from fractions import Fraction

from ..problem import RuledProblem

_GOODS = ("apples", "pens", "stamps", "tiles", "candles", "marbles", "screws", "lemons")
_FORM = "A whole number or a fraction in lowest terms."
_WORKERS = ("printer", "baker", "robot", "painter", "pump", "gardener")


def fraction(rng: random.Random, difficulty: int) -> RuledProblem:
    """Sums, differences and products of `difficulty + 1` fractions."""
    limit = 5 + 2 * difficulty
    while True:
        total = _drawn(rng, limit)
        text, steps = str(total), list[str]()
        for _ in range(difficulty):
            other, sign = _drawn(rng, limit), "+-*"[rng.randrange(3)]
            result = total * other if sign == "*" else total + (other if sign == "+" else -other)
            text = f"({text}) * {other}" if sign == "*" and steps else f"{text} {sign} {other}"
            steps.append(f"({total}){sign}({other})={result}")
            total = result
        if total:
            break
    return RuledProblem(
        question=f"Compute {text}. {_FORM}",
        answer=str(total),
        work=" ".join(steps),
        rule="lowest",
    )


def percent(rng: random.Random, difficulty: int) -> RuledProblem:
    """A part of a whole, a whole after a change, or what percent a part is."""
    rate = rng.randrange(5, 100, 5) if difficulty == 1 else rng.randint(1, 99)
    whole = 20 * rng.randint(1, 20 * difficulty)
    kind = rng.randrange(3)
    if kind == 0:
        result = Fraction(whole * rate, 100)
        question, rule = f"What is {rate}% of {whole}? {_FORM}", "lowest"
        work = f"{whole}*{rate}/100={result}"
    elif kind == 1:
        part = Fraction(whole * rate, 100)
        way = rng.choice(("rises", "falls"))
        sign = "+" if way == "rises" else "-"
        result = whole + part if way == "rises" else whole - part
        question = f"A price of {whole} {way} by {rate}%. What is it now? {_FORM}"
        work, rule = f"{whole}*{rate}/100={part} {whole}{sign}({part})={result}", "lowest"
    else:
        some = rng.randint(1, whole)
        result, rule = Fraction(100 * some, whole), "percent"
        question = f"What percent of {whole} is {some}? {_FORM}"
        work = f"100*{some}/{whole}={result}"
    return RuledProblem(question=question, answer=str(result), work=work, rule=rule)


def rate(rng: random.Random, difficulty: int) -> RuledProblem:
    """Speeds, prices and work: from one number of units to another."""
    unit, first, second = (rng.randint(2, 9 + 6 * difficulty) for _ in range(3))
    known, result = unit * first, unit * second
    kind = rng.randrange(3)
    rule = "integer"
    if kind == 0:
        question = (
            f"A train goes {known} km in {first} hours. How many km does it go in {second} hours?"
        )
    elif kind == 1:
        goods = rng.choice(_GOODS)
        question, rule = (
            f"{first} {goods} cost ${known}. How many dollars do {second} cost?",
            "money",
        )
    else:
        worker, goods = rng.choice(_WORKERS), rng.choice(_GOODS)
        question = (
            f"A {worker} handles {known} {goods} in {first} minutes. "
            f"How many {goods} are that in {second} minutes?"
        )
    work = f"{known}/{first}={unit} {unit}*{second}={result}"
    return RuledProblem(question=question, answer=str(result), work=work, rule=rule)


def _drawn(rng: random.Random, limit: int) -> Fraction:
    below = rng.randint(2, limit)
    return Fraction(rng.randint(1, limit), below)
