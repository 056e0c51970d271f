"""What the difficulties are, and how a task of one is drawn."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import ConfigError, unknown_name
from ..tasks import Instance
from .generate import classic_maze, small_maze
from .ghosts import KINDS
from .maze import HOUSE, Cell, Maze, lattice, parse

Size = int | Literal["classic"]
LARGEST = 31
_CLASSIC_CELLS = 200
"""Any classic maze has more."""
_MOST_GHOSTS, _MOST_LIVES = 8, 99


@dataclass(frozen=True, slots=True)
class Level:
    """How hard a game is."""

    size: Size
    """Cells a side, odd; or "classic", 28 wide and 31 high."""
    pellets: int | Literal["all"]
    ghosts: tuple[str, ...]
    power_pellets: int = 0
    """How many of the pellets frighten the ghosts."""
    lives: int = 1
    is_drawn: bool = True
    """Is every task another maze? If not: corridors around pillars, always the same."""


LEVELS = {
    1: Level(5, 3, ("wander",), is_drawn=False),
    2: Level(7, 6, ("chase",), lives=2),
    3: Level(9, 12, ("chase", "wander"), power_pellets=1, lives=3),
    4: Level(13, 24, ("chase", "ambush", "wander"), power_pellets=2, lives=3),
    5: Level(19, 60, ("chase", "ambush", "patrol", "wander"), power_pellets=4, lives=3),
    6: Level("classic", "all", ("chase", "chase", "ambush", "patrol"), power_pellets=4, lives=3),
}
"""By difficulty."""


def level_of(difficulty: int, changes: dict[str, Any]) -> Level:
    """The level of a difficulty with what is not None changed.

    Raises:
        ConfigError: No such difficulty, or a value out of range; says what is allowed.
        UnknownNameError: A kind of ghost or a size that does not exist.
    """
    if difficulty not in LEVELS:
        raise ConfigError(f"Pac-Man's difficulty goes from 1 to {len(LEVELS)}, got {difficulty}")
    given = {name: value for name, value in changes.items() if value is not None}
    if "ghosts" in given:
        given["ghosts"] = _ghosts(given["ghosts"])
    if "size" in given:
        _require_size(given["size"])
    level = replace(LEVELS[difficulty], **given)
    _require_counts(level)
    return level


def _ghosts(kinds: Any) -> tuple[str, ...]:
    if not isinstance(kinds, list | tuple):
        raise ConfigError(f"ghosts must be a list of kinds, got {kinds!r}")
    if not 1 <= len(kinds) <= _MOST_GHOSTS:
        raise ConfigError(f"there must be 1 to {_MOST_GHOSTS} ghosts, got {len(kinds)}")
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("ghost", str(kind), KINDS)
    return tuple(kinds)


def _require_size(size: Any) -> None:
    if isinstance(size, str) and size != "classic":
        raise unknown_name("size", size, ["classic"], f"Or an odd number from 5 to {LARGEST}.")
    if size != "classic" and not (_is_count(size, 5, LARGEST) and size % 2):
        raise ConfigError(
            f"size must be an odd number of at least 5 and at most {LARGEST}, or 'classic', "
            f"got {size!r}"
        )


def _require_counts(level: Level) -> None:
    pellets, size = level.pellets, level.size
    if size == "classic":
        most = _CLASSIC_CELLS
    else:
        # A drawn maze has at least half of the cells that all corridors together have.
        most = len(lattice(int(size)).cells) // (2 if level.is_drawn else 1) - 5
    if pellets != "all" and not _is_count(pellets, 1, most):
        raise ConfigError(f"pellets must be 1 to {most} at size {size}, or 'all', got {pellets!r}")
    most_power = most if pellets == "all" else pellets
    if not _is_count(level.power_pellets, 0, most_power):
        raise ConfigError(
            f"power_pellets must be 0 to the number of pellets, got {level.power_pellets!r}"
        )
    if not _is_count(level.lives, 1, _MOST_LIVES):
        raise ConfigError(
            f"lives must be at least 1 and at most {_MOST_LIVES}, got {level.lives!r}"
        )


def _is_count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def draw_instance(rng: random.Random, level: Level) -> Instance:
    """A maze where the level has mazes of its own, places for everyone, no ghost close to Pac-Man.

    What is as at difficulty 1 is left out, so that its tasks stay what they always were.
    """
    extra: dict[str, Any] = {}
    if level.size == "classic":
        maze = parse(tuple(classic_maze(rng)))
    elif level.is_drawn:
        maze = parse(tuple(small_maze(rng, level.size)))
    else:
        maze = lattice(level.size)
    if level.size == "classic" or level.is_drawn:
        extra["maze"] = list(maze.rows)
    player = rng.choice(maze.cells)
    steps = maze.distances(player)
    free = [cell for cell in maze.cells if cell != player]
    distance = min(3 + (maze.width - 5) // 2, 8)
    far = [cell for cell in free if steps[cell] >= distance]
    if level.size == "classic":
        far = [cell for cell in far if _is_at_the_house(cell, maze)] or far
    chosen = free if level.pellets == "all" else rng.sample(free, level.pellets)
    instance = {
        "player": list(player),
        "pellets": sorted(list(cell) for cell in chosen),
        "ghosts": [[kind, *rng.choice(far)] for kind in level.ghosts],
    }
    if level.power_pellets:
        extra["power"] = sorted(map(list, rng.sample(sorted(chosen), level.power_pellets)))
    if level.lives > 1:
        extra["lives"] = level.lives
    return instance | extra


def turns_for(maze: Maze, pellets: int) -> int:
    """The turns of a task: enough to get about, and six for each pellet."""
    return 6 + 6 * pellets + 4 * (maze.height + maze.width - 10)


def _is_at_the_house(cell: Cell, maze: Maze) -> bool:
    row, column = cell
    around = maze.rows[max(row - 2, 0) : row + 3]
    return any(HOUSE in line[max(column - 2, 0) : column + 3] for line in around)
