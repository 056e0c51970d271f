"""How a policy sees the maze: short sensor readings for small models, a grid, or a told scene.

A view looks at what is at most `window` rows and columns away, or at everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from .game import Game
from .ghosts import EYES, FRIGHTENED, Ghost
from .maze import DIRECTIONS, WALL, Cell, Maze

View = Callable[[Game, int | None], str]

FAR = 99
"""Stands for "no way there"."""


def nearest_pellet(
    cell: Cell, maze: Maze, pellets: Collection[Cell], hunters: Collection[Cell]
) -> int:
    """Steps from `cell` to the nearest of the pellets by a way that no hunter stands in, or `FAR`.

    Most ways have no hunter on them, so the remembered distances answer first: if no hunter is on a
    shortest way to the nearest pellet, that is it.
    """
    if not pellets:
        return FAR
    if cell in pellets:
        return 0
    if cell not in hunters:
        steps = maze.distances(cell)
        nearest = min(pellets, key=steps.__getitem__)
        least, back = steps[nearest], maze.distances(nearest)
        for hunter in hunters:
            if steps[hunter] + back[hunter] == least:
                break
        else:
            return least
    return maze.steps_around(cell, pellets, hunters, FAR)


def danger(cell: Cell, maze: Maze, hunters: Collection[Cell]) -> int:
    """2 where a hunter stands, 1 where one can come next, else 0."""
    worst, beside = 0, maze.neighbours[cell]
    for hunter in hunters:
        if hunter == cell:
            return 2
        if hunter in beside:
            worst = 1
    return worst


def sensors(game: Game, window: int | None) -> str:
    """For each direction `#`, or the steps to the nearest pellet from there, `!` if unsafe."""
    maze = game.maze
    ways = maze.exits[game.player]
    pellets = _seen(game.pellets, game, window)
    hunters = _seen(game.hunters(), game, window)
    readings = []
    for name in DIRECTIONS:
        cell = ways.get(name)
        if cell is None:
            readings.append(f"{name} #")
            continue
        steps = nearest_pellet(cell, maze, pellets, hunters)
        reading = f"{name} {'-' if steps == FAR else steps}"
        readings.append(f"{reading}!" if danger(cell, maze, hunters) else reading)
    if game.fright:
        readings.append(f"power {game.fright}")
    return " ".join(readings)


def grid(game: Game, window: int | None) -> str:
    """The board, and a line with the score: # wall, C Pac-Man, G ghost, . pellet, o power."""
    rows = [list(row) for row in game.maze.rows]
    for row, column in game.pellets:
        rows[row][column] = "."
    for row, column in game.power:
        rows[row][column] = "o"
    rows[game.player[0]][game.player[1]] = "C"
    for ghost in game.ghosts:
        rows[ghost.cell[0]][ghost.cell[1]] = _SYMBOLS.get(ghost.mood, "G")
    if window is not None:
        rows = _cut(rows, game.player, window)
    return "\n".join([*map("".join, rows), game.caption()])


_SYMBOLS = {FRIGHTENED: "g", EYES: "e"}


def scene(game: Game, window: int | None) -> str:
    """What Pac-Man sees, in words."""
    ways = game.maze.exits[game.player]
    pellets, hunters = (_seen(cells, game, window) for cells in (game.pellets, game.hunters()))
    place = "at a crossing" if len(ways) > 2 else "in a corridor"
    lines = [f"You are {place}, facing {game.heading}."]
    for name in DIRECTIONS:
        if name not in ways:
            lines.append(f"{name.capitalize()}: a wall.")
            continue
        steps = nearest_pellet(ways[name], game.maze, pellets, hunters) + 1
        what = "no pellet in sight" if steps > FAR else f"the nearest pellet in {_steps(steps)}"
        lines.append(f"{name.capitalize()}: open, {what}.")
    places = set(_seen([ghost.cell for ghost in game.ghosts], game, window))
    lines += [_told(ghost, game) for ghost in game.ghosts if ghost.cell in places]
    power = _seen(game.power, game, window)
    if power:
        steps = min(game.maze.distances(game.player)[cell] for cell in power)
        lines.append(f"A power pellet is {_steps(steps)} away.")
    if game.fright:
        lines.append(f"The ghosts are frightened for {game.fright} more moves.")
    plural = "life" if game.lives == 1 else "lives"
    left = f"{len(game.pellets)} pellets left, {game.lives} {plural}, score {game.score}."
    return "\n".join([*lines, left])


VIEWS: dict[str, View] = {"sensors": sensors, "grid": grid, "scene": scene}


_KINDS = {
    "wander": "A wandering ghost",
    "chase": "A chasing ghost",
    "ambush": "An ambushing ghost",
    "patrol": "A patrolling ghost",
}


def _told(ghost: Ghost, game: Game) -> str:
    """Where a ghost is, and by which way it would come."""
    who = {FRIGHTENED: "A frightened ghost", EYES: "A pair of eyes"}.get(ghost.mood)
    who = who or _KINDS[ghost.kind]
    row, column = ghost.cell[0] - game.player[0], ghost.cell[1] - game.player[1]
    where = [f"{abs(row)} {'down' if row > 0 else 'up'}"] if row else []
    where += [f"{abs(column)} {'right' if column > 0 else 'left'}"] if column else []
    to_ghost = game.maze.distances(ghost.cell)
    ways = game.maze.exits[game.player]
    first = min(ways, key=lambda name: to_ghost[ways[name]])
    steps = _steps(to_ghost[game.player])
    return f"{who} is {' and '.join(where) or 'here'}: {steps} away if you go {first}."


def _steps(number: int) -> str:
    return "1 step" if number == 1 else f"{number} steps"


def _seen(cells: Collection[Cell], game: Game, window: int | None) -> Collection[Cell]:
    """Those of the cells that the window shows."""
    if window is None:
        return cells
    row, column = game.player
    return [
        cell for cell in cells if abs(cell[0] - row) <= window and abs(cell[1] - column) <= window
    ]


def _cut(rows: list[list[str]], player: Cell, window: int) -> list[list[str]]:
    """The square around Pac-Man; what lies outside the maze is wall."""
    (row, column), height, width = player, len(rows), len(rows[0])
    return [
        [
            rows[r][c] if 0 <= r < height and 0 <= c < width else WALL
            for c in range(column - window, column + window + 1)
        ]
        for r in range(row - window, row + window + 1)
    ]
