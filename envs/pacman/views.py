"""How a policy sees the maze: short sensor readings for small models, or the whole grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .maze import DIRECTIONS, Cell, distances, exits, is_open

View = Callable[[Cell, set[Cell], list[Cell], int], str]


FAR = 99
"""Stands for "no way there"."""


def nearest_pellet(cell: Cell, pellets: Iterable[Cell], ghosts: Iterable[Cell], size: int) -> int:
    """Steps from `cell` to the nearest pellet by a way that no ghost stands in, or `FAR`."""
    steps = distances(cell, size, frozenset(ghosts))
    return min((steps[pellet] for pellet in pellets if pellet in steps), default=FAR)


def danger(cell: Cell, ghosts: Iterable[Cell], size: int) -> int:
    """2 where a ghost stands, 1 where one can come next, else 0."""
    steps = distances(cell, size)
    return max((2 - steps[ghost] for ghost in ghosts if steps[ghost] <= 1), default=0)


def sensor(player: Cell, pellets: set[Cell], ghosts: list[Cell], size: int) -> str:
    """For each direction `#`, or the steps to the nearest pellet from there, `!` if unsafe."""
    ways = exits(player, size)
    readings = []
    for name in DIRECTIONS:
        if name not in ways:
            readings.append(f"{name} #")
            continue
        mark = "!" if danger(ways[name], ghosts, size) else ""
        steps = nearest_pellet(ways[name], pellets, ghosts, size)
        readings.append(f"{name} {'-' if steps == FAR else steps}{mark}")
    return " ".join(readings)


def grid(player: Cell, pellets: set[Cell], ghosts: list[Cell], size: int) -> str:
    """The board as text: # pillar, C Pac-Man, G ghost, . pellet."""

    def symbol(cell: Cell) -> str:
        if cell in ghosts:
            return "G"
        if cell == player:
            return "C"
        if not is_open(cell, size):
            return "#"
        return "." if cell in pellets else " "

    return "\n".join("".join(symbol((r, c)) for c in range(size)) for r in range(size))


VIEWS: dict[str, View] = {"sensor": sensor, "grid": grid}
