"""Whole numbers: digits, primes, recurrences, the clock."""

from __future__ import annotations

import random

from ..problem import Draft, code, edits


def digits(rng: random.Random, difficulty: int) -> Draft:
    """Digits in some base, each weighted, summed until little is left."""
    base, weight, limit = (
        rng.randint(3, 12),
        rng.randint(1, 3),
        rng.randint(20, 20 + 20 * difficulty),
    )
    solution = code(
        """
        def f(n):
            while n >= $limit:
                total = 0
                while n:
                    n, digit = divmod(n, $base)
                    total += $digit
                n = total
            return n
        """,
        limit=limit,
        base=base,
        digit="digit" if weight == 1 else f"digit**{weight}",
    )
    # A sum of powers may return to itself: one pass then, as often as nothing else would end.
    if weight > 1:
        solution = solution.replace("while n >=", "if n >=")
    wrong = edits(
        solution,
        (f"n >= {limit}", f"n > {limit + 9}"),
        ("total += digit", "total = digit"),
        (f"divmod(n, {base})", f"divmod(n, {base + 1})"),
    )
    power = {1: "digits", 2: "squares of the digits", 3: "cubes of the digits"}[weight]
    again = "As long as" if weight == 1 else "If"
    task = (
        f"Write f(n): {again} n is at least {limit}, replace it by the sum of the {power} that it "
        f"has in base {base}; then return it."
    )
    return Draft(
        task,
        solution,
        wrong,
        lambda rng: [rng.choice((limit + rng.randint(0, 9), rng.randint(0, 10**5)))],
    )


def primes(rng: random.Random, difficulty: int) -> Draft:
    """Primes of a kind below a bound."""
    modulus = rng.randint(3, 8 + 2 * difficulty)
    rest = rng.randint(1, modulus - 1)
    while any(modulus % p == 0 and rest % p == 0 for p in (2, 3, 5, 7)):
        rest = rng.randint(1, modulus - 1)
    how, what = rng.choice((("sum", "sum"), ("len", "number"), ("max", "largest")))
    last = ", default=0" if how == "max" else ""
    solution = code(
        """
        def f(n):
            found = []
            for p in range(2, n):
                if all(p % d for d in range(2, int(p**0.5) + 1)) and p % $modulus == $rest:
                    found.append(p)
            return $how(found$last)
        """,
        modulus=modulus,
        rest=rest,
        how=how,
        last=last,
    )
    wrong = edits(
        solution,
        ("+ 1)", ")"),
        ("range(2, n)", "range(2, n + 1)"),
        (f"== {rest}", f"== {(rest + 1) % modulus}"),
    )
    task = (
        f"Write f(n): the {what} of the primes below n that leave {rest} when divided by "
        f"{modulus}; 0 if there are none."
    )
    found = [p for p in range(2, 200) if p % modulus == rest]
    near = [p for p in found if all(p % d for d in range(2, p))]
    return Draft(
        task, solution, wrong, lambda rng: [rng.choice([*near, rng.randint(0, 200), 50, 122])]
    )


def recurrence(rng: random.Random, difficulty: int) -> Draft:
    """A sequence by its rule, modulo a number."""
    a, b, first, second = (rng.randint(1, 4 + difficulty) for _ in range(4))
    modulus = rng.randint(50, 100 * difficulty)
    solution = code(
        """
        def f(n):
            old, new = $first, $second
            for _ in range(n):
                old, new = new, ($a * new + $b * old) % $modulus
            return old
        """,
        a=a, b=b, first=first, second=second, modulus=modulus,
    )  # fmt: skip
    wrong = edits(
        solution,
        ("return old", "return new"),
        (f" % {modulus}", ""),
        ("range(n)", "range(n - 1)"),
        (f"{b} * old", f"{b + 1} * old"),
    )
    task = (
        f"Write f(n): element n of the sequence {first}, {second}, ... (elements 0 and 1), where "
        f"each next element is {a} times the one before plus {b} times the one before that, modulo "
        f"{modulus}."
    )
    return Draft(task, solution, wrong, lambda rng: [rng.randint(0, 40)])


def clock(rng: random.Random, difficulty: int) -> Draft:
    """Times of a day: earlier or later, across midnight."""
    minutes = rng.randint(5, 200 * difficulty)
    later = rng.random() < 0.5
    sign, word = ("+", "later") if later else ("-", "earlier")
    solution = code(
        """
        def f(time):
            hours, minutes = map(int, time.split(":"))
            total = (60 * hours + minutes $sign $minutes) % 1440
            return f"{total // 60:02}:{total % 60:02}"
        """,
        sign=sign,
        minutes=minutes,
    )
    wrong = edits(
        solution,
        (" % 1440", ""),
        ("{total // 60:02}", "{total // 60}"),
        (f"{sign} {minutes}", f"{sign} {minutes + 1}"),
    )

    def arguments(rng: random.Random) -> list[str]:
        hour = rng.choice((0, 23, rng.randrange(24), 1200 // 60))
        return [f"{hour:02}:{rng.choice((0, 59, rng.randrange(60))):02}"]

    task = f"Write f(time): the time of day {minutes} minutes {word}, also as 'hh:mm'."
    return Draft(task, solution, wrong, arguments)
