"""Functions of one line: arithmetic, text, a condition, a list."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from typing import Any

from ..problem import Draft, edits

_SIGNS = {"plus": "+", "minus": "-", "times": "*"}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def expression(rng: random.Random, difficulty: int) -> Draft:
    """Arithmetic in words, `difficulty + 1` steps."""
    words, formula, is_sum = [], "x", False
    for _ in range(difficulty + 1):
        name = rng.choice(list(_SIGNS))
        number = rng.randint(2, 20)
        words.append(f"{name} {number}")
        if is_sum and name == "times":
            formula = f"({formula})"
        formula += f" {_SIGNS[name]} {number}"
        is_sum = name != "times"
    solution = _line("x", formula)
    changes = [(f" {number}\n", f" {number + 1}\n")]
    changes += [(" + ", " - ")] if " + " in formula else []
    changes += [(" - ", " + ")] if " - " in formula else []
    changes += [(" * ", " + ")] if " * " in formula else []
    flat = (solution.replace("return (", "return ").replace(") *", " *"),) if "(" in formula else ()
    task = f"Write f(x): x {', then '.join(words)}."
    return Draft(task, solution, edits(solution, *changes) + flat, lambda rng: [rng.randint(0, 20)])


def letters(rng: random.Random, difficulty: int) -> Draft:
    """What to do with a text, `difficulty + 1` steps."""
    words, formula, is_loose = [], "s", False
    for _ in range(difficulty + 1):
        k = rng.randint(2, 4)
        tail = "".join(rng.choice(_LETTERS) for _ in range(2))
        done, change = rng.choice(
            [
                (f"without its first {k} characters", f"[{k}:]"),
                (f"without its last {k} characters", f"[:-{k}]"),
                ("backwards", "[::-1]"),
                ("in capitals", ".upper()"),
                (f"followed by {tail!r}", f" + {tail!r}"),
                (f"{k} times in a row", f" * {k}"),
            ]
        )
        words.append(done)
        formula = (f"({formula})" if is_loose and " + " not in change else formula) + change
        is_loose = change[0] == " "
    solution = _line("s", formula)
    wrong = [(c, str(int(c) + 1)) for c in formula if c.isdigit()][:1]
    wrong += [("[::-1]", "[::1]")] if "[::-1]" in formula else []
    wrong += [(".upper()", ".title()")] if ".upper()" in formula else []
    wrong += [(" + ", " + ' ' + ")] if " + " in formula else []
    longest = 6 + 4 * difficulty
    task = f"Write f(s): the text s {', then '.join(words)}."
    return Draft(task, solution, edits(solution, *wrong), lambda rng: [_word(rng, 4, longest)])


def choose(rng: random.Random, difficulty: int) -> Draft:
    """One thing or another, by a threshold; another branch for each difficulty."""
    limits = sorted(rng.sample(range(2, 20 * difficulty), difficulty), reverse=True)
    branches = [_choice(rng) for _ in range(difficulty + 1)]
    while any(a == b for a, b in pairwise(branches)):
        branches = [_choice(rng) for _ in range(difficulty + 1)]
    words, formula = [], ""
    for (said, value), limit in zip(branches, limits, strict=False):
        words.append(f"{said} if x is above {limit}")
        formula += f"{value} if x > {limit} else "
    solution = _line("x", formula + branches[-1][1])
    task = f"Write f(x): {', '.join(words)}, else {branches[-1][0]}."
    wrong = edits(
        solution,
        (f" > {limits[0]}", f" >= {limits[0]}"),
        (f" > {limits[-1]}", f" < {limits[-1]}"),
        (branches[0][1], "x"),
    )

    def arguments(rng: random.Random) -> list[Any]:
        near = rng.choice(limits) + rng.choice((-2, -1, 0, 0, 1, 2))
        return [rng.choice((near, near, rng.randint(0, 20 * difficulty + 5)))]

    return Draft(task, solution, wrong, arguments)


def pick(rng: random.Random, difficulty: int) -> Draft:
    """Sum, number or largest of the elements that fulfil `difficulty` conditions."""
    how = rng.choice(("sum", "number", "squares"))
    limit, divisor = rng.randint(-5, 12), rng.randint(2, 5)
    conditions = [
        (f"above {limit}", f"x > {limit}"),
        (f"divisible by {divisor}", f"x % {divisor} == 0"),
        (f"other than {limit + 2 * divisor}", f"x != {limit + 2 * divisor}"),
    ]
    chosen = rng.sample(conditions[: max(2, difficulty)], min(difficulty, 3))
    said = " and ".join(words for words, _ in chosen)
    test = " and ".join(test for _, test in chosen)
    value = {"sum": "x", "number": "1", "squares": "x * x"}[how]
    what = {"sum": "the sum", "number": "the number", "squares": "the sum of the squares"}[how]
    solution = _line("xs", f"sum({value} for x in xs if {test})")
    wrong = edits(solution, (f"sum({value} ", f"sum({'x' if how == 'number' else '1'} "))
    wrong += edits(solution, (f" if {test}", ""))
    if " > " in test:
        wrong += edits(solution, (" > ", " >= "))
    if " == 0" in test:
        wrong += edits(solution, (" == 0", " != 0"))

    named = [int(number) for number in re.findall(r"-?\d+", said)]

    def arguments(rng: random.Random) -> list[Any]:
        near = (*named, *(number + 1 for number in named), 2 * named[0], 0)
        count = rng.randint(1, 6)
        return [[rng.choice([*near, rng.randint(-9, 24)]) for _ in range(count)]]

    return Draft(f"Write f(xs): {what} of the elements of xs that are {said}.",
                 solution, wrong, arguments)  # fmt: skip


def _choice(rng: random.Random) -> tuple[str, str]:
    name, number = rng.choice(list(_SIGNS)), rng.randint(2, 9)
    return f"x {name} {number}", f"x {_SIGNS[name]} {number}"


def _line(name: str, formula: str) -> str:
    return f"def f({name}):\n    return {formula}\n"


def _word(rng: random.Random, shortest: int, longest: int) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(shortest, longest)))
