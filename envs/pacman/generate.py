"""Generated mazes: a lattice of crossings from which corridors are taken away at random.

A corridor is taken only if every crossing keeps two ways out and no corridor becomes a bridge, a
way that one must come back by. The classic size is two mirrored halves around the ghosts' house.
"""

from __future__ import annotations

import random
from itertools import pairwise

from .maze import HOUSE, OPEN, WALL, Cell

Edge = tuple[Cell, Cell]
"""Two crossings that a corridor joins, the upper or left one first."""

CLASSIC = (31, 28)
"""Height and width."""
_TAKEN = 0.6
"""Share of the corridors that are tried; more would leave a single winding loop."""


def small_maze(rng: random.Random, size: int) -> list[str]:
    """A maze of `size` times `size` cells without a border; `size` is odd and at least 5."""
    lines = range(0, size, 2)
    edges = _grid(list(lines), list(lines), set())
    return _draw(_thin(rng, [{edge} for edge in edges]), size, size)


def classic_maze(rng: random.Random) -> list[str]:
    """A maze of 31 rows and 28 columns: mirrored, with a border, a tunnel and a ghosts' house."""
    height, width = CLASSIC
    gaps = [5, 3, 3]
    rng.shuffle(gaps)
    left = [1, 1 + gaps[0], 1 + gaps[0] + gaps[1], 12]
    columns = left + [width - 1 - column for column in reversed(left)]
    gaps = [4, *[3] * 8]
    rng.shuffle(gaps)
    lines = [1]
    for gap in gaps:
        lines.append(lines[-1] + gap)
    top = 3  # the crossing row above the house; the house takes the place of the next
    hidden = {(lines[top + 1], column) for column in columns[3:5]}
    edges = _grid(lines, columns, hidden)
    pairs = {frozenset((edge, _mirrored(edge, width))) for edge in edges}
    rows = _draw(_thin(rng, [set(pair) for pair in sorted(pairs, key=sorted)]), height, width)
    tunnel = lines[rng.randint(top, top + 2)]
    rows[tunnel] = OPEN + rows[tunnel][1:-1] + OPEN
    for row in range(lines[top] + 2, lines[top + 2] - 1):
        middle = HOUSE * (columns[5] - columns[2] - 3)
        rows[row] = rows[row][: columns[2] + 2] + middle + rows[row][columns[5] - 1 :]
    return rows


def _grid(lines: list[int], columns: list[int], hidden: set[Cell]) -> list[Edge]:
    """All corridors between neighbouring crossings, but those of `hidden` crossings."""
    across = [((r, a), (r, b)) for r in lines for a, b in pairwise(columns)]
    down = [((a, c), (b, c)) for a, b in pairwise(lines) for c in columns]
    return [edge for edge in across + down if not hidden.intersection(edge)]


def _mirrored(edge: Edge, width: int) -> Edge:
    (row, column), (other_row, other_column) = edge
    ends = sorted([(row, width - 1 - column), (other_row, width - 1 - other_column)])
    return ends[0], ends[1]


def _thin(rng: random.Random, bundles: list[set[Edge]]) -> set[Edge]:
    """Take bundles of corridors away in random order, as far as no bridge appears."""
    ways: dict[Cell, list[Cell]] = {}
    for a, b in set().union(*bundles):
        ways.setdefault(a, []).append(b)
        ways.setdefault(b, []).append(a)
    taken: set[Edge] = set()
    for bundle in rng.sample(bundles, round(_TAKEN * len(bundles))):
        for a, b in bundle:
            ways[a].remove(b)
            ways[b].remove(a)
        # Most fail by the count already, which costs nothing.
        ends = {end for edge in bundle for end in edge}
        if min(len(ways[end]) for end in ends) >= 2 and _is_bridgeless(ways):
            taken |= bundle
            continue
        for a, b in bundle:
            ways[a].append(b)
            ways[b].append(a)
    return set().union(*bundles) - taken


def _is_bridgeless(ways: dict[Cell, list[Cell]]) -> bool:
    """Are all crossings joined, each pair of neighbours by two separate ways?

    One depth-first walk: an edge is a bridge if nothing below it leads back above (Tarjan 1974).
    """
    root = next(iter(ways))
    entered, lowest = {root: 0}, {root: 0}
    walk = [(root, root, iter(ways[root]))]
    while walk:
        cell, parent, others = walk[-1]
        for other in others:
            if other not in entered:
                entered[other] = lowest[other] = len(entered)
                walk.append((other, cell, iter(ways[other])))
                break
            if other != parent and entered[other] < lowest[cell]:
                lowest[cell] = entered[other]
        else:
            walk.pop()
            if cell != root:
                if lowest[cell] == entered[cell]:
                    return False
                if lowest[cell] < lowest[parent]:
                    lowest[parent] = lowest[cell]
    return len(entered) == len(ways)


def _draw(edges: set[Edge], height: int, width: int) -> list[str]:
    """Carve the corridors out of the rock."""
    rock = [[WALL] * width for _ in range(height)]
    for (row, column), (last_row, last_column) in edges:
        for r in range(row, last_row + 1):
            for c in range(column, last_column + 1):
                rock[r][c] = OPEN
    return ["".join(row) for row in rock]
