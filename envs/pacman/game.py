"""The game: Pac-Man moves, then the ghosts; pellets, power pellets, lives and score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .ghosts import EYES, FRIGHTENED, HUNTING, Choose, Ghost, walk
from .maze import DIRECTIONS, Cell, Maze

FRIGHT_MOVES = 24
"""Moves for which a power pellet frightens the ghosts."""
_PELLET, _POWER, _GHOST = 10, 50, 200
"""Points; the second ghost of one power pellet is worth twice the first, and so on."""


@dataclass(slots=True)
class Game:
    """A position. `move` is the only thing that changes it."""

    maze: Maze
    player: Cell
    pellets: set[Cell]
    """All that is left, power pellets too."""
    power: set[Cell]
    ghosts: list[Ghost]
    lives: int = 1
    heading: str = "left"
    fright: int = 0
    """Moves for which the ghosts stay frightened."""
    score: int = 0
    combo: int = 0
    """Ghosts eaten by the current power pellet."""
    moves: int = 0
    """Made so far."""
    home: Cell = (0, 0)
    """Where Pac-Man starts, and starts again."""

    def move(self, word: str, choose: Choose) -> tuple[bool, bool]:
        """Move Pac-Man, then the ghosts: was a pellet eaten, was he caught?

        A word that is no open way leaves him where he is. After he is caught everyone goes home.
        """
        self.moves += 1
        target = self.maze.exits[self.player].get(word)
        has_eaten = False
        if target is not None:
            self.player, self.heading = target, word
            if target in self.pellets:
                has_eaten = True
                self._eat(target)
        if self._is_caught():
            return has_eaten, True
        if not self.pellets:
            return has_eaten, False
        if self.fright:
            self._calm_down()
        # Each decides before any has moved; no ghost's way depends on another's.
        self.ghosts = [walk(ghost, self, choose) for ghost in self.ghosts]
        return has_eaten, self._is_caught()

    def hunters(self) -> list[Cell]:
        """Where the ghosts are that catch."""
        return [ghost.cell for ghost in self.ghosts if ghost.mood == HUNTING]

    def caption(self) -> str:
        """Score, lives and what is left, in a line."""
        power = f", power for {self.fright}" if self.fright else ""
        return f"score {self.score}, lives {self.lives}, pellets {len(self.pellets)}{power}"

    def state(self) -> dict[str, Any]:
        """The position as JSON, without the maze."""
        return {
            "player": list(self.player),
            "heading": self.heading,
            "pellets": sorted(list(cell) for cell in self.pellets),
            "ghosts": [
                [kind, list(cell), list(home), back and list(back), mood, corner]
                for kind, cell, home, back, mood, corner in self.ghosts
            ],
            "counts": [self.lives, self.fright, self.score, self.combo, self.moves],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`, in a game of the same task."""
        self.player, self.heading = tuple(state["player"]), state["heading"]
        self.pellets = {(row, column) for row, column in state["pellets"]}
        self.power &= self.pellets
        self.ghosts = [
            Ghost(kind, tuple(cell), tuple(home), back and tuple(back), mood, corner)
            for kind, cell, home, back, mood, corner in state["ghosts"]
        ]
        self.lives, self.fright, self.score, self.combo, self.moves = state["counts"]

    def _eat(self, cell: Cell) -> None:
        self.pellets.remove(cell)
        if cell not in self.power:
            self.score += _PELLET
            return
        self.power.remove(cell)
        self.score += _POWER
        self.fright, self.combo = FRIGHT_MOVES, 0
        self.ghosts = [
            ghost if ghost.mood == EYES else ghost._replace(mood=FRIGHTENED)
            for ghost in self.ghosts
        ]

    def _calm_down(self) -> None:
        self.fright -= 1
        if self.fright == 0:
            self.ghosts = [
                ghost._replace(mood=HUNTING) if ghost.mood == FRIGHTENED else ghost
                for ghost in self.ghosts
            ]

    def _is_caught(self) -> bool:
        """Meet the ghosts where Pac-Man is: eat the frightened, be caught by a hunter."""
        for number, ghost in enumerate(self.ghosts):
            if ghost.cell == self.player:
                if ghost.mood == HUNTING:
                    self._lose_life()
                    return True
                if ghost.mood == FRIGHTENED:
                    self.score += _GHOST * 2**self.combo
                    self.combo += 1
                    self.ghosts[number] = ghost._replace(mood=EYES)
        return False

    def _lose_life(self) -> None:
        self.lives -= 1
        if self.lives:
            self.player, self.fright, self.combo = self.home, 0, 0
            self.ghosts = [Ghost(ghost.kind, ghost.home, ghost.home) for ghost in self.ghosts]


def first_heading(maze: Maze, cell: Cell) -> str:
    """The way that Pac-Man looks at first."""
    return next(name for name in DIRECTIONS if name in maze.exits[cell])
