"""Pictures of a game: coloured text for a terminal, or an array of pixels.

Pixels are drawn with numpy alone. Walls are lines at a fixed distance from the corridors, so they
have round corners; everything has soft edges.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from .game import Game
from .ghosts import EYES, FRIGHTENED, HUNTING
from .maze import HOUSE, Cell, Maze
from .views import grid

Pixels = npt.NDArray[np.uint8]
"""`[H, W, 3]`"""
_Field = npt.NDArray[np.float32]

Colour = tuple[int, int, int]
BACKGROUND: Colour = (8, 8, 20)
WALLS: Colour = (50, 80, 255)
DOOR: Colour = (255, 170, 200)
PELLETS: Colour = (255, 200, 165)
PACMAN: Colour = (255, 225, 30)
FRIGHT: Colour = (45, 60, 240)
GHOSTS: dict[str, Colour] = {
    "chase": (255, 45, 45),
    "ambush": (255, 160, 215),
    "patrol": (60, 220, 255),
    "wander": (255, 165, 50),
}

_WALL_AT = 0.66
"""Distance of the walls from the middle of a corridor, in cells."""
_ANGLES = {"right": 0.0, "down": np.pi / 2, "left": np.pi, "up": -np.pi / 2}


def text(game: Game) -> str:
    """The board in the colours of a terminal, two characters a cell so that cells are square."""
    kinds = {ghost.cell: ghost.kind for ghost in game.ghosts if ghost.mood == HUNTING}
    lines = []
    board = grid(game, None).split("\n")
    rows, below = board[: game.maze.height], board[game.maze.height :]
    for r, row in enumerate(rows):
        marks = [
            (
                GHOSTS[kinds[r, c]] if mark == "G" else _TEXT.get(mark),
                "██" if mark == "#" else f"{mark} ",
            )
            for c, mark in enumerate(row)
        ]
        runs = [(key, "".join(m[1] for m in run)) for key, run in groupby(marks, lambda m: m[0])]
        lines.append("".join(_coloured(shown, colour) for colour, shown in runs))
    return "\n".join([*lines, *below])


_TEXT: dict[str, Colour] = {
    "#": WALLS, "C": PACMAN, ".": PELLETS, "o": PELLETS, "g": FRIGHT, "e": (255, 255, 255),
}  # fmt: skip


def _coloured(mark: str, colour: Colour | None) -> str:
    if colour is None:
        return mark
    red, green, blue = colour
    return f"\x1b[38;2;{red};{green};{blue}m{mark}\x1b[0m"


def tile_size(maze: Maze) -> int:
    """Pixels a cell: more for small mazes, so that pictures are about 450 pixels high."""
    return max(14, min(40, 450 // (maze.height + 1)))


def pixels(game: Game) -> Pixels:
    """The board as pixels; one cell of margin where the maze has no border."""
    maze = game.maze
    tile = tile_size(maze)
    margin = 0 if maze.has_border else 1
    canvas = _walls(maze, tile, margin).copy()

    def put(cell: Cell, mask: _Field, colour: Colour) -> None:
        top, left = (cell[0] + margin) * tile - tile // 2, (cell[1] + margin) * tile - tile // 2
        _blend(canvas, mask, colour, top, left)

    for cell in sorted(game.pellets):
        put(cell, _disc(tile, 0.28 if cell in game.power else 0.11), PELLETS)
    put(game.player, _pacman(tile, game.heading, sum(game.player) % 2), PACMAN)
    for ghost in game.ghosts:
        scared = ghost.mood == FRIGHTENED
        if ghost.mood != EYES:
            # A frightened ghost flickers when it is about to recover.
            flickers = scared and game.fright < 6 and game.fright % 2
            colour = (230, 230, 255) if flickers else FRIGHT if scared else GHOSTS[ghost.kind]
            put(ghost.cell, _ghost(tile), colour)
        white, pupils = _eyes(tile, scared)
        put(ghost.cell, white, (255, 225, 200) if scared else (255, 255, 255))
        put(ghost.cell, pupils, (20, 20, 120))
    return canvas


def _blend(canvas: Pixels, mask: _Field, colour: Colour, top: int, left: int) -> None:
    """Paint with a mask of opacities; what falls outside is cut off."""
    height, width = canvas.shape[:2]
    first, begin = max(-top, 0), max(-left, 0)
    mask = mask[first : height - top, begin : width - left, None]
    part = canvas[top + first : top + first + mask.shape[0], left + begin :][:, : mask.shape[1]]
    part[...] = (part * (1 - mask) + np.array(colour) * mask).astype(np.uint8)


@lru_cache(maxsize=4)
def _walls(maze: Maze, tile: int, margin: int) -> Pixels:
    """The empty maze."""
    height, width = (maze.height + 2 * margin) * tile, (maze.width + 2 * margin) * tile
    away = np.full((height, width), 9.0, np.float32)
    for row, column in maze.cells:
        top, left = (row + margin - 1) * tile, (column + margin - 1) * tile
        for down, right in ((0, 0), (0, 1), (1, 0)):
            end = (row + down, column + right)
            if (down or right) and end not in maze.exits:
                continue
            window = away[max(top, 0) : top + 4 * tile, max(left, 0) : left + 4 * tile]
            field = _to_segment(tile, down, right)[max(-top, 0) :, max(-left, 0) :]
            field = field[: window.shape[0], : window.shape[1]]
            np.minimum(window, field, out=window)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[...] = BACKGROUND
    line = np.clip(1.6 - np.abs(away - _WALL_AT) * tile, 0, 1).astype(np.float32)
    glow = np.exp(-(((away - _WALL_AT) * tile / 3.5) ** 2)).astype(np.float32) * 0.35
    for mask in (glow, line):
        _blend(canvas, mask, WALLS, 0, 0)
    _door(canvas, maze, tile, margin)
    return canvas


def _door(canvas: Pixels, maze: Maze, tile: int, margin: int) -> None:
    """The door of the ghosts' house, in its upper wall."""
    for row, line in enumerate(maze.rows):
        if HOUSE in line:
            middle = (line.index(HOUSE) + line.rindex(HOUSE) + 1) * tile // 2 + margin * tile
            top = round((row + margin - 1.5 + _WALL_AT) * tile)
            canvas[top - 2 : top + 2, middle - tile : middle + tile] = DOOR
            return


@lru_cache(maxsize=32)
def _to_segment(tile: int, down: int, right: int) -> _Field:
    """Distance in cells of each pixel of four by four cells from a corridor in their middle."""
    y, x = np.mgrid[: 4 * tile, : 4 * tile].astype(np.float32)
    y, x = (y + 0.5) / tile - 1.5, (x + 0.5) / tile - 1.5
    away: _Field = np.hypot(y - np.clip(y, 0, down), x - np.clip(x, 0, right))
    return away


def _sprite(tile: int) -> tuple[_Field, _Field]:
    """Row and column of each pixel of two by two cells, in cells from the middle."""
    y, x = np.mgrid[: 2 * tile, : 2 * tile].astype(np.float32)
    return (y + 0.5) / tile - 1.0, (x + 0.5) / tile - 1.0


def _soft(inside: Any, tile: int) -> _Field:
    """Opacity from the distance inside an edge, in cells: soft over one pixel."""
    opacity: _Field = np.clip(inside * tile + 0.5, 0, 1).astype(np.float32)
    return opacity


@lru_cache(maxsize=64)
def _disc(tile: int, radius: float, row: float = 0.0, column: float = 0.0) -> _Field:
    y, x = _sprite(tile)
    return _soft(radius - np.hypot(y - row, x - column), tile)


@lru_cache(maxsize=64)
def _pacman(tile: int, heading: str, is_wide: int) -> _Field:
    """A disc with a mouth that opens and closes as he goes."""
    y, x = _sprite(tile)
    angle = _ANGLES[heading]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    half = 0.75 if is_wide else 0.3
    mouth = along * np.sin(half) - np.abs(across) * np.cos(half)
    return _disc(tile, 0.62) * (1 - _soft(mouth, tile))


@lru_cache(maxsize=8)
def _ghost(tile: int) -> _Field:
    """A dome over a wavy hem."""
    y, x = _sprite(tile)
    dome = 0.58 - np.hypot(y + 0.05, x)
    hem = 0.52 + 0.09 * np.cos(x * 2 * np.pi * 3 / 1.16)
    skirt = np.minimum.reduce([0.58 - np.abs(x), y + 0.05, hem - y])
    return _soft(np.maximum(dome, skirt), tile)


@lru_cache(maxsize=8)
def _eyes(tile: int, is_scared: bool) -> tuple[_Field, _Field]:
    """White and pupils; a frightened ghost has small eyes without pupils."""
    size = 0.09 if is_scared else 0.17
    white = np.maximum(_disc(tile, size, -0.12, -0.22), _disc(tile, size, -0.12, 0.22))
    pupils = np.maximum(_disc(tile, 0.09, -0.1, -0.2), _disc(tile, 0.09, -0.1, 0.24))
    return white, pupils * (0 if is_scared else 1)
