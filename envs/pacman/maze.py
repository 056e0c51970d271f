"""Mazes: walls and corridors as rows of text, and the distances in them.

Every maze hangs together and has no dead ends, so nobody is ever cornered by the walls alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from functools import lru_cache

Cell = tuple[int, int]
"""Row and column."""

DIRECTIONS: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
OPEN, WALL, HOUSE = " ", "#", "-"
"""What the rows are made of; nobody enters the ghosts' house, which only fills the middle."""


class Maze:
    """A maze, with what can be looked up in it. Get one from `lattice` or `parse`.

    Where a maze has a border, openings in it that face each other are a tunnel.
    """

    def __init__(self, rows: tuple[str, ...]) -> None:
        self.rows = rows
        self.height, self.width = len(rows), len(rows[0])
        self.has_border = set(rows[0]) == {WALL}
        self.cells: tuple[Cell, ...] = tuple(
            (r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark == OPEN
        )
        self.exits: dict[Cell, dict[str, Cell]] = {cell: self._exits(cell) for cell in self.cells}
        self.neighbours = {cell: tuple(ways.values()) for cell, ways in self.exits.items()}
        top = [cell for cell in self.cells if cell[0] == self.cells[0][0]]
        bottom = [cell for cell in self.cells if cell[0] == self.cells[-1][0]]
        self.corners: tuple[Cell, ...] = (top[0], top[-1], bottom[-1], bottom[0])
        """The open cells nearest to the corners, clockwise from the upper left."""
        self._distances: dict[Cell, dict[Cell, int]] = {}

    def distances(self, start: Cell) -> dict[Cell, int]:
        """Steps from `start` to every cell, remembered."""
        found = self._distances.get(start)
        if found is not None:
            return found
        found = self._distances[start] = {start: 0}
        queue = deque([start])
        neighbours = self.neighbours
        while queue:
            cell = queue.popleft()
            steps = found[cell] + 1
            for target in neighbours[cell]:
                if target not in found:
                    found[target] = steps
                    queue.append(target)
        return found

    def steps_around(
        self, start: Cell, targets: Collection[Cell], blocked: Collection[Cell], none: int
    ) -> int:
        """Steps from `start` to the nearest target around what is blocked, or `none`."""
        seen = {start, *blocked}
        ring, steps = [start], 0
        while ring:
            steps += 1
            outer = []
            for cell in ring:
                for target in self.neighbours[cell]:
                    if target not in seen:
                        if target in targets:
                            return steps
                        seen.add(target)
                        outer.append(target)
            ring = outer
        return none

    def _exits(self, cell: Cell) -> dict[str, Cell]:
        ways = {}
        for name, (dr, dc) in DIRECTIONS.items():
            row, column = cell[0] + dr, cell[1] + dc
            if self.has_border:
                column %= self.width
            is_inside = 0 <= row < self.height and 0 <= column < self.width
            if is_inside and self.rows[row][column] == OPEN:
                ways[name] = (row, column)
        return ways


@lru_cache(maxsize=16)
def lattice(size: int) -> Maze:
    """Corridors around pillars, which stand where row and column are both odd."""
    rows = ["".join(WALL if r % 2 and c % 2 else OPEN for c in range(size)) for r in range(size)]
    return Maze(tuple(rows))


# All distances in a classic maze take some megabytes, so few mazes are remembered.
@lru_cache(maxsize=16)
def parse(rows: tuple[str, ...]) -> Maze:
    """The maze that the rows show; the same rows give the same object while it is remembered."""
    return Maze(rows)
