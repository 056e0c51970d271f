"""Tasks for dynamic programming: coins, paths, subsequences, edits, a knapsack."""

from __future__ import annotations

import random
from typing import Any

from ..problem import Draft, code, edits


def coins(rng: random.Random, difficulty: int) -> Draft:
    """The fewest coins that make an amount."""
    values = sorted(rng.sample(range(2, 12 + 4 * difficulty), 3))
    solution = code(
        """
        def f(amount):
            fewest = [0] + [None] * amount
            for total in range(1, amount + 1):
                for coin in $values:
                    if coin <= total and fewest[total - coin] is not None:
                        count = fewest[total - coin] + 1
                        if fewest[total] is None or count < fewest[total]:
                            fewest[total] = count
            return -1 if fewest[amount] is None else fewest[amount]
        """,
        values=tuple(values),
    )
    greedy = code(
        """
        def f(amount):
            count = 0
            for coin in $values:
                count += amount // coin
                amount %= coin
            return -1 if amount else count
        """,
        values=tuple(reversed(values)),
    )
    wrong = edits(solution, ("return -1 if", "return 0 if"), ("coin <= total", "coin < total"))
    task = (
        f"Write f(amount): the fewest coins of {values[0]}, {values[1]} and {values[2]} that add "
        "up to amount, any number of each; -1 where none do."
    )
    return Draft(
        task, solution, (greedy, *wrong), lambda rng: [rng.randint(0, 40 + 20 * difficulty)]
    )


def paths(rng: random.Random, difficulty: int) -> Draft:
    """The cheapest path through a grid of costs, some steps surcharged."""
    down, right = rng.randint(0, 3 + difficulty), rng.randint(0, 3 + difficulty)
    best, word = rng.choice((("min", "smallest"), ("max", "largest")))
    solution = code(
        """
        def f(grid):
            best = [[0] * len(row) for row in grid]
            for y, row in enumerate(grid):
                for x, cost in enumerate(row):
                    options = []
                    if y > 0:
                        options.append(best[y - 1][x] + $down)
                    if x > 0:
                        options.append(best[y][x - 1] + $right)
                    best[y][x] = cost + (${how}(options) if options else 0)
            return best[-1][-1]
        """,
        down=down, right=right, how=best,
    )  # fmt: skip
    greedy = code(
        """
        def f(grid):
            y = x = 0
            total = grid[0][0]
            while y < len(grid) - 1 or x < len(grid[0]) - 1:
                steps = []
                if y < len(grid) - 1:
                    steps.append((grid[y + 1][x] + $down, y + 1, x))
                if x < len(grid[0]) - 1:
                    steps.append((grid[y][x + 1] + $right, y, x + 1))
                cost, y, x = ${how}(steps)
                total += cost
            return total
        """,
        down=down, right=right, how=best,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f"[x] + {down}", f"[x] + {down + 1}"),
        (f"{best}(options)", "min(options)" if best == "max" else "max(options)"),
    )
    task = (
        f"Write f(grid): the {word} total of a path from the top left to the bottom right of a "
        f"grid of numbers, by steps down and right. The total is the numbers on the path, plus "
        f"{down} for each step down and {right} for each step right."
    )

    def arguments(rng: random.Random) -> list[Any]:
        wide, high = rng.randint(1, 4), rng.randint(1, 4)
        return [[[rng.randint(0, 9) for _ in range(wide)] for _ in range(high)]]

    return Draft(task, solution, (greedy, *wrong), arguments)


def rising(rng: random.Random, difficulty: int) -> Draft:
    """The longest (or heaviest) subsequence whose steps are bounded."""
    low, more = rng.randint(-2, 3), rng.randint(2, 6 + difficulty)
    high = low + more
    by, what = rng.choice((("1", "length of the longest"), ("x", "largest sum of a")))
    solution = code(
        """
        def f(xs):
            best = []
            for i, x in enumerate(xs):
                before = [best[j] for j in range(i) if $low <= x - xs[j] <= $high]
                best.append($by + max(before, default=0))
            return max(best, default=0)
        """,
        low=low, high=high, by=by,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f"{low} <= x", f"{low} < x"),
        (f"<= {high}]", f"< {high}]"),
        ("return max(best, default=0)", "return best[-1] if best else 0"),
        ("range(i)", "range(max(0, i - 1), i)"),
    )
    task = (
        f"Write f(xs): the {what} subsequence of xs (not empty, unless xs is: then 0) in which "
        f"every element is at least {low} and at most {high} more than the one chosen before it."
    )
    longest = 6 + 2 * difficulty

    def arguments(rng: random.Random) -> list[Any]:
        return [[rng.randint(1, 14) for _ in range(rng.randint(0, longest))]]

    return Draft(task, solution, wrong, arguments)


def edit(rng: random.Random, difficulty: int) -> Draft:
    """The cheapest way to turn one text into another, with prices."""
    add, drop, change = (rng.randint(1, 3 + difficulty) for _ in range(3))
    solution = code(
        """
        def f(a, b):
            row = [j * $add for j in range(len(b) + 1)]
            for i, x in enumerate(a, 1):
                old, row = row, [i * $drop]
                for j, y in enumerate(b, 1):
                    swapped = old[j - 1] + (0 if x == y else $change)
                    row.append(min(swapped, old[j] + $drop, row[j - 1] + $add))
            return row[-1]
        """,
        add=add, drop=drop, change=change,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f"j * {add}", "j"),
        (f"0 if x == y else {change}", f"{change}"),
        (f"old[j] + {drop}, ", ""),
        (f"else {change}", f"else {change + 1}"),
    )
    task = (
        f"Write f(a, b): the least cost of turning text a into text b, where adding a letter costs "
        f"{add}, removing one {drop}, and replacing one by another {change}."
    )

    def arguments(rng: random.Random) -> list[Any]:
        return ["".join(rng.choice("abc") for _ in range(rng.randint(0, 6))) for _ in range(2)]

    return Draft(task, solution, wrong, arguments)


def knapsack(rng: random.Random, difficulty: int) -> Draft:
    """The most value that fits, with a price for each thing taken."""
    fee, most = rng.randint(0, 2 + difficulty), rng.randint(2, 3 + difficulty)
    extra = rng.randint(0, 4)
    solution = code(
        """
        def f(weights, values, limit):
            best = [[0] * (limit + 1) for _ in range($most + 1)]
            for weight, value in zip(weights, values):
                for count in range($most, 0, -1):
                    for room in range(limit, weight + $extra - 1, -1):
                        taken = best[count - 1][room - weight - $extra] + value - $fee
                        best[count][room] = max(best[count][room], taken)
            return max(row[limit] for row in best)
        """,
        most=most, fee=fee, extra=extra,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f"range({most}, 0, -1)", f"range(1, {most} + 1)"),
        (f"weight + {extra} - 1", f"weight + {extra}"),
        (f"- {fee}\n", f"- {fee + 1}\n"),
        (f"range({most} + 1)", f"range({most})"),
    )
    task = (
        "Write f(weights, values, limit): the largest value of things that fit into a bag. Thing "
        f"i takes weights[i] + {extra} of the limit and is worth values[i] - {fee}; each is taken "
        f"once or not at all, at most {most} in all. An empty bag is worth 0."
    )

    def arguments(rng: random.Random) -> list[Any]:
        count = rng.randint(1, 3 + difficulty)
        weights = [rng.randint(1, 6) for _ in range(count)]
        return [weights, [rng.randint(1, 9) for _ in weights], rng.randint(0, 16 + 2 * extra)]

    return Draft(task, solution, wrong, arguments)
