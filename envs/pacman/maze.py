"""Mazes: a lattice of corridors around pillars, so that every cell has two ways out."""

from __future__ import annotations

from collections import deque
from functools import lru_cache

Cell = tuple[int, int]
"""Row and column."""

DIRECTIONS: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def is_open(cell: Cell, size: int) -> bool:
    """Is the cell inside, and no pillar? Pillars stand where row and column are both odd."""
    row, column = cell
    return 0 <= row < size and 0 <= column < size and not (row % 2 and column % 2)


@lru_cache(maxsize=8)
def open_cells(size: int) -> tuple[Cell, ...]:
    """All cells one can stand on."""
    return tuple((r, c) for r in range(size) for c in range(size) if is_open((r, c), size))


@lru_cache(maxsize=512)
def exits(cell: Cell, size: int) -> dict[str, Cell]:
    """Direction and cell of every way out."""
    moves = {name: (cell[0] + dr, cell[1] + dc) for name, (dr, dc) in DIRECTIONS.items()}
    return {name: target for name, target in moves.items() if is_open(target, size)}


@lru_cache(maxsize=4096)
def distances(start: Cell, size: int, blocked: frozenset[Cell] = frozenset()) -> dict[Cell, int]:
    """Steps from `start` to every cell that can be reached around `blocked`, breadth first."""
    found = {start: 0}
    queue = deque([start])
    while queue:
        cell = queue.popleft()
        for target in exits(cell, size).values():
            if target not in found and target not in blocked:
                found[target] = found[cell] + 1
                queue.append(target)
    return found
