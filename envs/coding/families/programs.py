"""Programs that read lines and print some: an account book, a ranking."""

from __future__ import annotations

import random

from ..problem import Draft, code, edits

_NAMES = ("ada", "bo", "cy", "di", "eve", "fay", "gil")


def ledger(rng: random.Random, difficulty: int) -> Draft:
    """Bookings on accounts: what is refused, and what is left."""
    fee, limit = rng.randint(0, 2 + difficulty), rng.randint(0, 20 * difficulty)
    add, take = rng.sample(("in", "out", "put", "get", "pay", "buy"), 2)
    solution = code(
        """
        balances = {}
        for _ in range(int(input())):
            name, kind, amount = input().split()
            amount = int(amount)
            balance = balances.setdefault(name, 0)
            if kind == "$add":
                balances[name] = balance + amount
            elif kind == "$take" and balance - amount - $fee >= -$limit:
                balances[name] = balance - amount - $fee
            else:
                print("refused", name)
        for name in sorted(balances):
            print(name, balances[name])
        """,
        add=add, take=take, fee=fee, limit=limit,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f">= -{limit}", f"> -{limit}"),
        ("sorted(balances)", "balances"),
        (f"balances[name] = balance - amount - {fee}", "balances[name] = balance - amount - 1"),
        ('print("refused", name)', "pass"),
    )
    task = (
        "Write a program. The first line of its input is a number n; n lines follow, each with a "
        f"name, a word and an amount. {add!r} adds the amount to the balance of that name (0 at "
        f"first); {take!r} takes the amount and a fee of {fee}, unless less than {-limit} would be "
        "left: then it prints 'refused' and the name, as for any other word. In the end it prints "
        "every name that occurred and its balance, a line each, in alphabetical order."
    )
    return Draft(task, solution, wrong, lambda rng: [_bookings(rng, (add, take), fee, limit)], "")


def ranking(rng: random.Random, difficulty: int) -> Draft:
    """Points of players, ranked, ties and all."""
    bonus, best = rng.randint(1, 5 + 5 * difficulty), rng.randint(1, 2 + difficulty)
    low, start = rng.random() < 0.5, rng.randint(0, 1)
    solution = code(
        """
        n = int(input())
        points = {}
        for number in range(n):
            name, score = input().split()
            points[name] = points.get(name, 0) + int(score)
            if number == 0:
                points[name] += $bonus
        ranked = sorted(points, key=lambda name: (${sign}points[name], name))
        for place, name in enumerate(ranked[:$best], $start):
            print(place, name, points[name])
        """,
        bonus=bonus, best=best, sign="" if low else "-", start=start,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f"+= {bonus}", f"+= {bonus + 1}"),
        ("points.get(name, 0) + ", ""),
        (f"[:{best}]", f"[:{best + 1}]"),
        ("points[name], name)", "points[name], -len(name))"),
    )
    task = (
        "Write a program. The first line of its input is a number n; n lines follow, each with a "
        f"name and a score. Scores of a name add up; the name of the first line gets {bonus} more. "
        f"It prints the first {best} names, {'lowest' if low else 'highest'} total first, ties in "
        f"alphabetical order: a line each with place (from {start}), name and total."
    )

    def arguments(rng: random.Random) -> list[str]:
        rows = [f"{rng.choice(_NAMES)} {rng.randint(0, 6)}" for _ in range(rng.randint(1, 9))]
        return ["\n".join([str(len(rows)), *rows]) + "\n"]

    return Draft(task, solution, wrong, arguments, "")


def _bookings(rng: random.Random, kinds: tuple[str, str], fee: int, limit: int) -> str:
    """Bookings of few names, some of them exactly at the limit."""
    names, rows = rng.sample(_NAMES, 2), []
    balances = dict.fromkeys(names, 0)
    for _ in range(rng.randint(1, 7)):
        name, kind = rng.choice(names), rng.choice((*kinds, *kinds, *kinds, "lend"))
        exact = balances[name] + limit - fee
        amount = exact if exact > 0 and rng.random() < 0.4 else rng.randint(1, 30)
        if kind == kinds[0]:
            balances[name] += amount
        elif kind == kinds[1] and amount <= exact:
            balances[name] -= amount + fee
        rows.append(f"{name} {kind} {amount}")
    return "\n".join([str(len(rows)), *rows]) + "\n"
