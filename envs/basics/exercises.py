"""The exercises: each draws a question and its answer. Letters, numbers, order, position."""

from __future__ import annotations

import random
from collections.abc import Callable

Drawn = tuple[str, str]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _word(rng: random.Random, difficulty: int) -> str:
    letters = rng.choice((_LETTERS, _LETTERS[:6]))
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 4 + difficulty)))


def _number(rng: random.Random, difficulty: int) -> int:
    return rng.randrange(10 ** rng.randint(1, 1 + difficulty))


def _copy(rng: random.Random, difficulty: int) -> Drawn:
    word = _word(rng, difficulty)
    return f"Copy {word}", word


def _reverse(rng: random.Random, difficulty: int) -> Drawn:
    word = _word(rng, difficulty)
    return f"Reverse {word}", word[::-1]


def _sort(rng: random.Random, difficulty: int) -> Drawn:
    if rng.random() < 0.5:
        word = _word(rng, difficulty)
        return f"Sort {word}", "".join(sorted(word))
    numbers = [_number(rng, difficulty) for _ in range(2 + difficulty)]
    return f"Sort {' '.join(map(str, numbers))}", " ".join(map(str, sorted(numbers)))


def _compare(rng: random.Random, difficulty: int) -> Drawn:
    a, b = _number(rng, difficulty), _number(rng, difficulty)
    question = rng.choice(("larger", "smaller"))
    return f"Which is {question}: {a} or {b}?", str(
        max(a, b) if question == "larger" else min(a, b)
    )


def _middle(rng: random.Random, difficulty: int) -> Drawn:
    a, b = sorted((_number(rng, difficulty), _number(rng, difficulty)))
    return f"What is in the middle of {a} and {b}?", str((a + b) // 2)


def _next(rng: random.Random, difficulty: int) -> Drawn:
    number, step = _number(rng, difficulty) + 1, rng.choice((-1, 1))
    return f"What comes {'after' if step > 0 else 'before'} {number}?", str(number + step)


def _count(rng: random.Random, difficulty: int) -> Drawn:
    letter = rng.choice(_LETTERS[:6])
    word = "".join(rng.choice(letter + _LETTERS[:4]) for _ in range(rng.randint(2, 4 + difficulty)))
    return f"How many {letter} in {word}?", str(word.count(letter))


def _position(rng: random.Random, difficulty: int) -> Drawn:
    word = _word(rng, difficulty)
    name, place = rng.choice((("first", 0), ("second", 1), ("last", -1)))
    return f"The {name} letter of {word}?", word[place]


def _look_up(rng: random.Random, difficulty: int) -> Drawn:
    names = rng.sample(_LETTERS, min(2 + difficulty, len(_LETTERS)))
    values = {name: _number(rng, difficulty) for name in names}
    wanted = rng.choice(names)
    told = " ".join(f"{name}={value}" for name, value in values.items())
    return f"{told}. What is {wanted}?", str(values[wanted])


EXERCISES: dict[str, Callable[[random.Random, int], Drawn]] = {
    "copy": _copy,
    "reverse": _reverse,
    "sort": _sort,
    "compare": _compare,
    "middle": _middle,
    "next": _next,
    "count": _count,
    "position": _position,
    "look up": _look_up,
}
