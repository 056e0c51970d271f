"""The oracle: eat the nearest pellet, but look ahead where ghosts hunt.

It knows how ghosts think, so it plays a plan out before it takes the first step. A wandering ghost
is expected to come straight for Pac-Man, which is the worst that it can do.
"""

from __future__ import annotations

import heapq

from .game import FRIGHT_MOVES, Game
from .ghosts import EYES, FRIGHTENED, HUNTING, Ghost, walk
from .maze import Cell
from .views import danger, nearest_pellet

_SAFE = 36
"""Moves for which Pac-Man must be able to stay alive after he has eaten."""
_DEPTH = 44
"""Moves for which he must where he cannot eat."""
_POSITIONS = 500
"""Most positions that are looked at for one move, by each of the two searches."""
_POSITIONS_AFTER = 200
"""Most of them to see whether one way to a pellet leaves a way on."""
_FORESEEN = 4
"""Moves for which a wandering ghost may be wherever it can get to."""


def best_way(game: Game) -> str:
    """The direction to take now."""
    if all(ghost.kind == "wander" for ghost in game.ghosts):
        return _greedy(game)
    return _planned(game)


def _greedy(game: Game) -> str:
    """The way to the nearest pellet among those that no ghost can reach next."""
    maze, hunters = game.maze, game.hunters()
    ways = maze.exits[game.player]
    return min(
        ways,
        key=lambda way: (
            danger(ways[way], maze, hunters),
            nearest_pellet(ways[way], maze, game.pellets, hunters),
        ),
    )


def _planned(game: Game) -> str:
    """The first step of a plan that is safe: the one that detours latest."""
    ghosts = [g._replace(kind="chase") if g.kind == "wander" else g for g in game.ghosts]
    start = Game(
        game.maze, game.player, game.pellets, game.power, ghosts,
        heading=game.heading, fright=game.fright, moves=game.moves,
    )  # fmt: skip
    return _Search(game, start, _goal(game)).first_step()


def _goal(game: Game) -> Cell:
    """The nearest pellet, a little rather one that the hunters are far from."""
    steps = game.maze.distances(game.player)
    hunters = [game.maze.distances(cell) for cell in game.hunters()]
    if not hunters:
        return min(game.pellets, key=lambda pellet: (steps[pellet], pellet))

    def cost(pellet: Cell) -> tuple[int, Cell]:
        lead = min(table[pellet] for table in hunters) - steps[pellet]
        return steps[pellet] + (0 if lead > 0 else 6 - lead), pellet

    return min(game.pellets, key=cost)


class _Search:
    """Looks for a way to a pellet that can be survived, then for one that merely is."""

    def __init__(self, game: Game, start: Game, goal: Cell) -> None:
        self.start = start
        self.to_goal = start.maze.distances(goal)
        self.risky = _reach([g for g in game.ghosts if g.kind == "wander" and g.mood != EYES], game)
        self.seen: dict[tuple[object, ...], int] = {}
        self.left = 0

    def first_step(self) -> str:
        """The first move of the plan."""
        return self._to_a_pellet() or self._away()

    def _to_a_pellet(self) -> str:
        """First step of the shortest way to a pellet that leaves a way on, or nothing (A*)."""
        open_positions = [(self.to_goal[self.start.player], 0, 0, "", self.start)]
        known: set[tuple[object, ...]] = set()
        number = 0
        while open_positions and number < _POSITIONS:
            _, _, moves, first, game = heapq.heappop(open_positions)
            for way, cell in game.maze.exits[game.player].items():
                after = self._after(game, way, cell, moves)
                if after is None or (key := _key(after)) in known:
                    continue
                known.add(key)
                number += 1
                if cell in game.pellets and self._is_safe(after, moves + 1):
                    return first or way
                rank = moves + 1 + self.to_goal[cell]
                heapq.heappush(open_positions, (rank, number, moves + 1, first or way, after))
        return ""

    def _away(self) -> str:
        """First step of the way that Pac-Man survives longest, of those the nearest the goal."""
        longest, best = -1, ""
        self.left, self.seen = _POSITIONS, {}
        for way, cell in self._ordered(self.start):
            after = self._after(self.start, way, cell, 0)
            lasts = -1 if after is None else self._lasts(after, 1, _DEPTH)
            if lasts > longest:
                longest, best = lasts, way
        return best or next(iter(self.start.maze.exits[self.start.player]))

    def _is_safe(self, game: Game, moves: int) -> bool:
        self.left = _POSITIONS_AFTER
        return self._lasts(game, moves, moves + _SAFE) >= _SAFE

    def _lasts(self, game: Game, moves: int, until: int) -> int:
        """Moves for which Pac-Man can be kept alive, at most until move number `until`."""
        if moves >= until:
            return 0
        key = (_key(game), until - moves)
        if key in self.seen:
            return self.seen[key]
        if self.left == 0:
            return 0
        self.left -= 1
        longest = 0
        for way, cell in self._ordered(game):
            after = self._after(game, way, cell, moves)
            if after is not None:
                longest = max(longest, 1 + self._lasts(after, moves + 1, until))
                if longest == until - moves:
                    break
        self.seen[key] = longest
        return longest

    def _after(self, game: Game, way: str, cell: Cell, moves: int) -> Game | None:
        """The position after a move, or None where Pac-Man is caught, or may be by a wanderer."""
        if moves < len(self.risky) and cell in self.risky[moves]:
            return None
        return _after(game, way, cell)

    def _ordered(self, game: Game) -> list[tuple[str, Cell]]:
        ways = game.maze.exits[game.player].items()
        return sorted(ways, key=lambda way: self.to_goal[way[1]])


def _key(game: Game) -> tuple[object, ...]:
    return (game.player, game.fright, game.moves, *((ghost[1], ghost[3]) for ghost in game.ghosts))


def _reach(ghosts: list[Ghost], game: Game) -> list[set[Cell]]:
    """By move: the cells where a ghost may be when Pac-Man comes or after it moved then."""
    if not ghosts:
        return []
    at = {(ghost.cell, ghost.back) for ghost in ghosts if ghost.mood != FRIGHTENED}
    found = []
    for _ in range(_FORESEEN):
        ahead: set[tuple[Cell, Cell | None]] = {
            (way, cell) for cell, back in at for way in game.maze.neighbours[cell] if way != back
        }
        found.append({cell for cell, _ in at | ahead})
        at = ahead
    return found


def _after(game: Game, way: str, cell: Cell) -> Game | None:
    """The position after a move, or None if Pac-Man is caught."""
    ghosts, power, fright = game.ghosts, game.power, game.fright
    if cell in power:
        power, fright = power - {cell}, FRIGHT_MOVES
        ghosts = [g if g.mood == EYES else g._replace(mood=FRIGHTENED) for g in ghosts]
    met = _meet(ghosts, cell)
    if met is None:
        return None
    if fright:
        fright -= 1
        if not fright:
            met = [g._replace(mood=HUNTING) if g.mood == FRIGHTENED else g for g in met]
    after = Game(
        game.maze, cell, game.pellets, power, met,
        heading=way, fright=fright, moves=game.moves + 1,
    )  # fmt: skip
    moved = _meet([walk(ghost, after, min) for ghost in met], cell)
    if moved is None:
        return None
    after.ghosts = moved
    return after


def _meet(ghosts: list[Ghost], cell: Cell) -> list[Ghost] | None:
    """The ghosts after they met Pac-Man, or None if one caught him."""
    for ghost in ghosts:
        if ghost.cell == cell and ghost.mood != EYES:
            if ghost.mood == HUNTING:
                return None
            return [g._replace(mood=EYES) if g.cell == cell else g for g in ghosts]
    return ghosts
