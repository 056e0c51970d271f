"""Word problems, composed from a small grammar: somebody has things, and things happen.

story    = setup event+ [aside] question
event    = gain | loss | double | groups | share
"""

from __future__ import annotations

import random
from collections.abc import Callable

from ..problem import RuledProblem

_PEOPLE = (
    ("Ada", "She"), ("Ben", "He"), ("Clara", "She"), ("David", "He"), ("Emma", "She"),
    ("Felix", "He"), ("Greta", "She"), ("Hugo", "He"), ("Ida", "She"), ("Jonas", "He"),
    ("Lena", "She"), ("Max", "He"), ("Nora", "She"), ("Oskar", "He"), ("Paula", "She"),
)  # fmt: skip
_THINGS = (
    "apples", "books", "coins", "marbles", "pencils", "shells", "stamps", "stickers", "stones",
    "tickets", "cards", "beads", "buttons", "nuts", "keys",
)  # fmt: skip
_GAINS = ("finds {n} more", "buys {n} more", "gets {n} more as a present", "picks up another {n}")
_LOSSES = ("gives {n} to a friend", "loses {n} of them", "sells {n} of them", "trades {n} away")
_ASIDES = (
    "{who} is {n} years old.", "It is day {n} of the holidays.", "The way home takes {n} minutes.",
    "{who} has read {n} pages today.",
)  # fmt: skip

Event = tuple[str, str, int]
"""Words, the operation as our calculator reads it, the new number."""


def story(rng: random.Random, difficulty: int) -> RuledProblem:
    """`difficulty + 1` events; from difficulty 3 on with a number that does not matter."""
    name, pronoun = rng.choice(_PEOPLE)
    things = rng.choice(_THINGS)
    limit = 10 + 10 * difficulty
    total = rng.randint(2, limit)
    sentences, steps = [f"{name} has {total} {things}."], []
    for _ in range(difficulty + 1):
        event = _EVENTS[rng.randrange(len(_EVENTS))]
        words, operation, result = event(rng, total, limit)
        sentences.append(f"{pronoun} {words}.")
        steps.append(f"{total}{operation}={result}")
        total = result
    if difficulty > 2:
        aside = rng.choice(_ASIDES).format(who=name, n=rng.randint(6, 90))
        sentences.insert(rng.randint(1, len(sentences)), aside)
    sentences.append(f"How many {things} does {name} have now?")
    return RuledProblem(
        question=" ".join(sentences), answer=str(total), work=" ".join(steps), rule="integer"
    )


def _gain(rng: random.Random, total: int, limit: int) -> Event:
    n = rng.randint(2, limit)
    return rng.choice(_GAINS).format(n=n), f"+{n}", total + n


def _loss(rng: random.Random, total: int, limit: int) -> Event:
    if total < 4:
        return _gain(rng, total, limit)
    n = rng.randint(2, total - 1)
    return rng.choice(_LOSSES).format(n=n), f"-{n}", total - n


def _double(rng: random.Random, total: int, limit: int) -> Event:
    if total > 3 * limit:
        return _loss(rng, total, limit)
    factor, words = rng.choice(((2, "doubles"), (3, "triples")))
    return f"{words} what is there", f"*{factor}", total * factor


def _groups(rng: random.Random, total: int, limit: int) -> Event:
    boxes, each = rng.randint(2, 9), rng.randint(2, 9)
    words = f"opens {boxes} boxes with {each} in each and keeps them all"
    return words, f"+{boxes}*{each}", total + boxes * each


def _share(rng: random.Random, total: int, limit: int) -> Event:
    for people in (5, 4, 3, 2):
        if total % people == 0:
            words = f"shares them equally, {people} people in all, and keeps one share"
            return words, f"/{people}", total // people
    return _loss(rng, total, limit)


_EVENTS: tuple[Callable[[random.Random, int, int], Event], ...] = (
    _gain, _loss, _double, _groups, _share,
)  # fmt: skip
