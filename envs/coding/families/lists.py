"""Lists of numbers: runs, windows, intervals."""

from __future__ import annotations

import random
from typing import Any

from ..problem import Draft, code, edits


def runs(rng: random.Random, difficulty: int) -> Draft:
    """Equal neighbours, counted: a run-length code of runs that are long enough."""
    least, separator = rng.randint(1, 2 + difficulty), rng.choice(":*-x=/.")
    order = rng.choice(("number first", "letter first"))
    pair = "{count}$separator{letter}" if order == "number first" else "{letter}$separator{count}"
    solution = code(
        """
        def f(text):
            parts = []
            start = 0
            for end in range(1, len(text) + 1):
                if end == len(text) or text[end] != text[start]:
                    letter, count = text[start], end - start
                    if count >= $least:
                        parts.append(f"PAIR")
                    start = end
            return ",".join(parts)
        """.replace("PAIR", pair),
        least=least,
        separator=separator,
    )
    wrong = edits(solution, (f">= {least}", f"> {least}"), ('","', '", "'), ("start = end", "pass"))
    task = (
        f"Write f(text): for every run of at least {least} equal letters the letter and how long "
        f"the run is, joined by {separator!r}, {order}; the runs joined by commas, in order."
    )

    def arguments(rng: random.Random) -> list[Any]:
        return ["".join(rng.choice("abc") * rng.randint(1, 4) for _ in range(rng.randint(1, 6)))]

    return Draft(task, solution, wrong, arguments)


def windows(rng: random.Random, difficulty: int) -> Draft:
    """The best sum of neighbours."""
    width = rng.randint(2, 5 + difficulty)
    largest, step = rng.random() < 0.5, rng.randint(1, 4 + difficulty)
    best, word = ("max", "largest") if largest else ("min", "smallest")
    solution = code(
        """
        def f(xs):
            sums = [sum(xs[i : i + $width]) for i in range(0, len(xs) - $width + 1, $step)]
            return $best(sums, default=0)
        """,
        width=width,
        step=step,
        best=best,
    )
    wrong = edits(
        solution,
        (f"- {width} + 1", f"- {width}"),
        (f"i + {width}", f"i + {width - 1}"),
        (f"{best}(", "min(" if largest else "max("),
        (f", {step})", f", {step + 1})"),
    )
    every = "every position" if step == 1 else f"positions 0, {step}, {2 * step}, ..."
    task = (
        f"Write f(xs): the {word} sum of {width} neighbours in xs that begin at {every}; 0 where "
        f"there are fewer than {width} elements."
    )

    def arguments(rng: random.Random) -> list[Any]:
        return [[rng.randint(-9, 9) for _ in range(rng.randint(0, 6 + 2 * width))]]

    return Draft(task, solution, wrong, arguments)


def merge(rng: random.Random, difficulty: int) -> Draft:
    """Intervals that touch, or nearly, become one; short ones are dropped."""
    gap, shortest = rng.randint(0, 8 + difficulty), rng.randint(1, 8 + difficulty)
    solution = code(
        """
        def f(intervals):
            merged = []
            for start, end in sorted(intervals):
                if merged and start - merged[-1][1] <= $gap:
                    merged[-1][1] = max(merged[-1][1], end)
                else:
                    merged.append([start, end])
            return [[start, end] for start, end in merged if end - start >= $shortest]
        """,
        gap=gap,
        shortest=shortest,
    )
    wrong = edits(
        solution,
        (f"<= {gap}", f"< {gap}"),
        ("max(merged[-1][1], end)", "end"),
        ("sorted(intervals)", "intervals"),
        (f">= {shortest}", f"> {shortest}"),
    )
    task = (
        "Write f(intervals): merge the intervals [start, end] that overlap or are at most "
        f"{gap} apart, keep those whose end is at least {shortest} above their start, and return "
        "them in order, as lists."
    )

    def arguments(rng: random.Random) -> list[Any]:
        starts = [rng.randint(0, 12 + 8 * gap) for _ in range(rng.randint(1, 6))]
        return [[[start, start + rng.randint(1, 4 + shortest)] for start in starts]]

    return Draft(task, solution, wrong, arguments)
