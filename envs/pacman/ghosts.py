"""Ghosts: what each kind aims for, and the step that it takes. No ghost turns back.

`wander` takes a random way, `chase` the shortest way to Pac-Man, `ambush` to where he will be in
four steps, `patrol` from corner to corner unless he comes near. A frightened ghost wanders at half
speed; an eaten one goes home as a pair of eyes and is a ghost again when it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .maze import Cell

if TYPE_CHECKING:
    from .game import Game

KINDS = ("wander", "chase", "ambush", "patrol")
HUNTING, FRIGHTENED, EYES = "hunting", "frightened", "eyes"

Choose = Callable[[list[Cell]], Cell]
"""Picks one of several cells at random."""

_REST = 4
"""Every how many moves hunters stand still: Pac-Man is a little faster than what hunts him."""
_AHEAD = 4
_NEAR = 5
"""Steps within which a patrol leaves its round and hunts."""


class Ghost(NamedTuple):
    """One ghost at one moment."""

    kind: str
    cell: Cell
    home: Cell
    back: Cell | None = None
    """Where it came from, and will not go."""
    mood: str = HUNTING
    corner: int = 0
    """Where a patrol is heading: number of the corner."""


def walk(ghost: Ghost, game: Game, choose: Choose) -> Ghost:
    """The ghost after its move."""
    kind, cell, home, back, mood, corner = ghost
    maze = game.maze
    if mood == EYES:
        if cell == home:
            return Ghost(kind, cell, home, None, HUNTING, corner)
        to_home = maze.distances(home)
        nearer = min(maze.neighbours[cell], key=to_home.__getitem__)
        return Ghost(kind, nearer, home, cell, EYES, corner)
    if mood == FRIGHTENED:
        if game.fright % 2:
            return ghost
    elif kind != "wander" and game.moves % _REST == 0:
        return ghost
    if kind == "patrol" and cell == maze.corners[corner]:
        corner = (corner + 1) % 4
    ways = [way for way in maze.neighbours[cell] if way != back]
    if len(ways) == 1:
        return Ghost(kind, ways[0], home, cell, mood, corner)
    if mood == FRIGHTENED or kind == "wander":
        return Ghost(kind, choose(ways), home, cell, mood, corner)
    goal = game.player
    if kind == "ambush":
        goal = _ahead(game)
    elif kind == "patrol" and maze.distances(goal)[cell] > _NEAR:
        goal = maze.corners[corner]
    to_goal = maze.distances(goal)
    return Ghost(kind, min(ways, key=to_goal.__getitem__), home, cell, mood, corner)


def _ahead(game: Game) -> Cell:
    """Where Pac-Man would be in a few steps if he went straight on."""
    cell = game.player
    for _ in range(_AHEAD):
        cell = game.maze.exits[cell].get(game.heading, cell)
    return cell
