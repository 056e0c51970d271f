"""`Pacman-v0`: eat every pellet, keep clear of the ghosts.

The reward counts pellets up to one half; the other half is for eating them all. Points, lives and
eaten ghosts are part of the game and of what a policy reads, never of the reward.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core import End, Reply
from ..env import TextEnv
from ..errors import ConfigError, unknown_name
from ..tasks import Instance, Task
from .expert import best_way
from .game import Game, first_heading
from .ghosts import Ghost
from .levels import Level, Size, draw_instance, level_of, turns_for
from .maze import lattice, parse
from .views import VIEWS

_PELLET_SHARE = 0.5
"""Share of the reward that is paid by the pellet; bounded below the reward of success."""
_RULES = (
    "You are Pac-Man in a maze. Eat all pellets before your turns run out; never touch a "
    "ghost. Each turn answer with one word: up, down, left or right. "
)
_POWER_RULES = (
    "A power pellet, which counts as a pellet, frightens the ghosts for some moves (power): "
    "you may eat them then. "
)
_LIVES_RULES = "Being caught costs a life. "
_TOLD = {
    "sensors": (
        "You are told for each direction the steps to the nearest pellet that way, or # for a "
        "wall; ! means that a ghost is within one step of there."
    ),
    "grid": (
        "You see the maze: C is you, # or - a wall, . pellet, o power pellet, G ghost, g a "
        "frightened ghost that you may eat, e the harmless eyes of an eaten one."
    ),
    "scene": "You are told what you see.",
}


class Pacman(TextEnv):
    """A maze, some pellets, and something that wants to eat you."""

    metadata: dict[str, Any] = {  # noqa: RUF012 Gymnasium declares it so
        **TextEnv.metadata,
        "render_modes": ["ansi", "rgb_array"],
        "snapshot": "state",
    }
    system_prompt = _RULES + _TOLD["sensors"]

    max_turns = 24
    reward_floor = _PELLET_SHARE

    def __init__(
        self,
        *,
        size: Size | None = None,
        pellets: int | str | None = None,
        ghosts: Sequence[str] | None = None,
        power_pellets: int | None = None,
        lives: int | None = None,
        view: str = "sensors",
        window: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Choose the game; what is None is as the difficulty says (`levels.py`).

        Args:
            size: Cells a side, odd, from 5 to 31; or "classic", 28 wide and 31 high.
            pellets: How many, or "all": one in every cell.
            ghosts: A kind for each: "wander", "chase", "ambush", "patrol".
            power_pellets: How many of the pellets frighten the ghosts.
            lives: How often Pac-Man may be caught, the last time included.
            view: What a policy reads: "sensors", "grid" or "scene".
            window: Rows and columns that it sees in each direction; None is everything.
            kwargs: `difficulty`, `max_turns`, `render_mode`.

        Raises:
            ConfigError: A value that cannot be played; says what can.
        """
        if view not in VIEWS:
            raise unknown_name("view", view, VIEWS)
        if window is not None and not (isinstance(window, int) and window >= 1):
            raise ConfigError(f"window must be a number of at least 1, got {window!r}")
        self.view, self.window = view, window
        self._changes = {
            "size": size,
            "pellets": pellets,
            "ghosts": ghosts,
            "power_pellets": power_pellets,
            "lives": lives,
        }
        self._levels: dict[int, Level] = {}
        super().__init__(**kwargs)
        self._turns_are_given = kwargs.get("max_turns") is not None
        self._level(self.difficulty)

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A maze, and places for Pac-Man, pellets and ghosts; no ghost starts close to him."""
        return draw_instance(rng, self._level(difficulty))

    def start(self) -> str:
        """Set up the board."""
        told = self.instance
        rows = told.get("maze")
        level_size = self._level(self.task.difficulty).size
        maze = parse(tuple(rows)) if rows else lattice(int(level_size))
        player = tuple(told["player"])
        self.game = Game(
            maze,
            player,
            {(row, column) for row, column in told["pellets"]},
            {(row, column) for row, column in told.get("power", ())},
            [Ghost(kind, (row, column), (row, column)) for kind, row, column in told["ghosts"]],
            told.get("lives", 1),
            first_heading(maze, player),
            home=player,
        )
        self.num_pellets = len(told["pellets"])
        if not self._turns_are_given:
            self.max_turns = turns_for(maze, self.num_pellets)
        power = _POWER_RULES if self.game.power else ""
        lives = _LIVES_RULES if self.game.lives > 1 else ""
        self.system_prompt = _RULES + power + lives + _TOLD[self.view]
        return self._look()

    def respond(self, action: str) -> Reply:
        """Move Pac-Man, then the ghosts."""
        game = self.game
        has_eaten, is_caught = game.move(action.strip().lower(), self._choose)
        parts = {"pellets": _PELLET_SHARE / self.num_pellets if has_eaten else 0.0}
        if is_caught and not game.lives:
            return End("caught", success=False, parts=parts)
        if not game.pellets:
            return End("all eaten", success=True, parts=parts | {"all": 1.0 - _PELLET_SHARE})
        if is_caught:
            left = "1 life" if game.lives == 1 else f"{game.lives} lives"
            return Reply(f"caught, {left} left\n{self._look()}", parts=parts)
        return Reply(self._look(), parts=parts)

    def oracle(self) -> str:
        """What an expert does who knows how the ghosts think."""
        return best_way(self.game)

    def mistake(self, rng: random.Random) -> str:
        """Any way that is open, wherever the ghosts are."""
        return rng.choice(list(self.game.maze.exits[self.game.player]))

    def state(self) -> dict[str, Any]:
        """Where everything is."""
        return self.game.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.game.restore(state)

    def picture(self) -> str:
        """The whole board, in the colours of a terminal."""
        from .pictures import text

        return text(self.game)

    def render(self) -> Any:
        """The board: coloured text in mode "ansi", pixels `[H, W, 3]` uint8 in "rgb_array"."""
        if self.render_mode != "rgb_array":
            return super().render()
        from .pictures import pixels

        return pixels(self.game)

    def export_replay(self, task: Task, actions: Sequence[str], path: Path) -> None:
        """Play the actions in the task and write what happens: `.html` to click through, or `.gif`.

        This environment's own episode is given up.

        Raises:
            ConfigError: Another kind of file, or Pillow is missing (for a GIF).
        """
        from .replay import record, write_replay

        write_replay(record(self, task, actions), path)

    def _look(self) -> str:
        return VIEWS[self.view](self.game, self.window)

    def _level(self, difficulty: int) -> Level:
        if difficulty not in self._levels:
            self._levels[difficulty] = level_of(difficulty, self._changes)
        return self._levels[difficulty]

    def _choose(self, ways: list[Any]) -> Any:
        return self.rng.choice(ways)
