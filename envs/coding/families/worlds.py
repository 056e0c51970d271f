"""Small worlds: a robot on a grid, islands, a maze."""

from __future__ import annotations

import random
from typing import Any

from ..problem import Draft, code, edits


def robot(rng: random.Random, difficulty: int) -> Draft:
    """A robot that obeys commands and turns away from walls."""
    size, step = rng.randint(3, 5 + difficulty), rng.randint(1, 2)
    turn, word = rng.choice(((1, "right"), (3, "left")))
    letters = rng.sample("FGMSTRLK", 3)
    solution = code(
        """
        def f(commands):
            x = y = facing = 0
            for command in commands:
                if command == "$left":
                    facing = (facing + 3) % 4
                elif command == "$right":
                    facing = (facing + 1) % 4
                elif command == "$go":
                    for _ in range($step):
                        dx, dy = ((0, 1), (1, 0), (0, -1), (-1, 0))[facing]
                        if 0 <= x + dx < $size and 0 <= y + dy < $size:
                            x, y = x + dx, y + dy
                        else:
                            facing = (facing + $turn) % 4
            return [x, y]
        """,
        left=letters[0], right=letters[1], go=letters[2], size=size, step=step, turn=turn,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f"x + dx < {size}", f"x + dx <= {size}"),
        (f"facing = (facing + {turn}) % 4\n    return", "pass\n    return"),
        ("(facing + 3) % 4", "(facing + 1) % 4"),
        ("return [x, y]", "return [y, x]"),
    )
    task = (
        "Write f(commands): where a robot ends, as [x, y]. It begins at [0, 0] of a grid of "
        f"{size} by {size}, facing up (y grows). {letters[0]!r} turns it left, {letters[1]!r} "
        f"right, {letters[2]!r} moves it {step} step(s) ahead; instead of a step off the grid it "
        f"turns {word} once. Other letters do nothing."
    )

    def arguments(rng: random.Random) -> list[Any]:
        stock = letters + [letters[2]] * 3 + ["x"]
        return ["".join(rng.choice(stock) for _ in range(rng.randint(1, 8 + 2 * size)))]

    return Draft(task, solution, wrong, arguments)


def islands(rng: random.Random, difficulty: int) -> Draft:
    """Connected cells of a map, counted where they are large enough."""
    land, sea = rng.sample("#.o~+x", 2)
    least = rng.randint(2, 3 + difficulty)
    how, what = rng.choice((("len", "number"), ("sum", "total size")))
    corners = rng.random() < 0.5
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0)) + (((1, 1), (1, -1), (-1, 1), (-1, -1)) * corners)
    solution = code(
        """
        def f(rows):
            land = {(y, x) for y, row in enumerate(rows) for x, c in enumerate(row) if c == "$land"}
            sizes = []
            while land:
                edge, size = [land.pop()], 0
                while edge:
                    y, x = edge.pop()
                    size += 1
                    for dy, dx in $steps:
                        if (y + dy, x + dx) in land:
                            land.remove((y + dy, x + dx))
                            edge.append((y + dy, x + dx))
                sizes.append(size)
            return $how([size for size in sizes if size >= $least])
        """,
        land=land, steps=steps, least=least, how=how,
    )  # fmt: skip
    other = repr(steps[:4]) if corners else repr((*steps, (1, 1), (1, -1), (-1, 1), (-1, -1)))
    wrong = edits(
        solution,
        (repr(steps), other),
        (f">= {least}", f"> {least}"),
        (f"{how}([", "sum([" if how == "len" else "len(["),
    )
    task = (
        f"Write f(rows): the {what} of the islands on a map that have at least {least} cells. The "
        f"map is a list of texts of equal length, {land!r} is land; cells belong together where "
        f"they share a side{' or a corner' if corners else ''}."
    )

    def arguments(rng: random.Random) -> list[Any]:
        wide = rng.randint(1, 6)
        return [
            ["".join(rng.choice(land + sea) for _ in range(wide)) for _ in range(rng.randint(1, 6))]
        ]

    return Draft(task, solution, wrong, arguments)


def maze(rng: random.Random, difficulty: int) -> Draft:
    """The shortest way on a line of numbered rooms, by jumps of two kinds."""
    ahead, back = rng.randint(2, 4 + difficulty), rng.randint(1, 3)
    bad = rng.randint(3, 5 + difficulty)
    solution = code(
        """
        def f(start, goal):
            steps, edge, seen = 0, [start], {start}
            while edge and steps < 60:
                if goal in edge:
                    return steps
                steps += 1
                reached = {r + jump for r in edge for jump in ($ahead, -$back)}
                edge = [r for r in reached - seen if 0 <= r <= 40 and r % $bad != 1]
                seen.update(edge)
            return -1
        """,
        ahead=ahead, back=back, bad=bad,
    )  # fmt: skip
    wrong = edits(
        solution,
        (f" and r % {bad} != 1", ""),
        ("return steps", "return steps + 1"),
        (f"-{back})", f"-{back + 1})"),
        ("0 <= r <= 40", "0 < r < 40"),
    )
    task = (
        "Write f(start, goal): the fewest moves from room start to room goal. There are rooms 0 "
        f"to 40; a move goes {ahead} rooms up or {back} down, and never into a room whose number "
        f"leaves 1 when divided by {bad}. -1 where there is no way; standing in the goal takes 0 "
        "moves."
    )

    def arguments(rng: random.Random) -> list[Any]:
        return [rng.randint(0, 40), rng.choice((0, 40, rng.randint(0, 40)))]

    return Draft(task, solution, wrong, arguments)
