"""`Pacman-v0`: eat every pellet, keep clear of the ghosts.

The reward counts pellets up to one half; the other half is for eating them all. Ghosts move after
Pac-Man: `wander` takes a random way, `chase` the shortest way to him; no ghost turns back.
"""

from __future__ import annotations

import random
from typing import Any

from ..core import End, Reply
from ..env import TextEnv
from ..errors import ConfigError, unknown_name
from ..tasks import Instance
from .maze import Cell, distances, exits, open_cells
from .views import VIEWS, danger, nearest_pellet

_GHOSTS = (("wander",), ("chase",), ("chase", "wander"), ("chase", "chase", "wander"))
_PELLET_SHARE = 0.5
"""Share of the reward that is paid by the pellet; bounded below the reward of success."""


class Pacman(TextEnv):
    """A maze, some pellets, and something that wants to eat you."""

    system_prompt = (
        "You are Pac-Man in a maze. Eat all pellets before your turns run out; never touch a "
        "ghost. Each turn answer with one word: up, down, left or right. You are told for each "
        "direction the steps to the nearest pellet that way, or # for a wall; ! means that a ghost "
        "is within one step of there."
    )

    max_turns = 24
    reward_floor = _PELLET_SHARE

    def __init__(
        self, *, size: int = 5, pellets: int = 3, view: str = "sensor", **kwargs: Any
    ) -> None:
        if size < 5 or size % 2 == 0:
            raise ConfigError(f"size must be an odd number of at least 5, got {size}")
        if not 1 <= pellets <= len(open_cells(size)) - 5:
            raise ConfigError(
                f"pellets must be 1 to {len(open_cells(size)) - 5} at size {size}, got {pellets}"
            )
        if view not in VIEWS:
            raise unknown_name("view", view, VIEWS)
        self.size, self.num_pellets, self.view = size, pellets, view
        super().__init__(**kwargs)

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """Places for Pac-Man, pellets and ghosts; no ghost starts close to him."""
        player = rng.choice(open_cells(self.size))
        steps = distances(player, self.size)
        free = [cell for cell in open_cells(self.size) if cell != player]
        far = [cell for cell in free if steps[cell] >= 3]
        kinds = _GHOSTS[min(difficulty, len(_GHOSTS)) - 1]
        return {
            "player": list(player),
            "pellets": sorted(list(cell) for cell in rng.sample(free, self.num_pellets)),
            "ghosts": [[kind, *rng.choice(far)] for kind in kinds],
        }

    def start(self) -> str:
        """Set up the board."""
        self.player: Cell = tuple(self.instance["player"])
        self.pellets: set[Cell] = {tuple(cell) for cell in self.instance["pellets"]}
        self.ghosts: list[Cell] = [(row, column) for _, row, column in self.instance["ghosts"]]
        self.came_from: list[Cell | None] = [None] * len(self.ghosts)
        return self._look()

    def respond(self, action: str) -> Reply:
        """Move Pac-Man, then the ghosts."""
        ways = exits(self.player, self.size)
        word = action.strip().lower()
        reward = 0.0
        if word in ways:
            self.player = ways[word]
            if self.player in self.pellets:
                self.pellets.remove(self.player)
                reward = _PELLET_SHARE / self.num_pellets
        if self.player in self.ghosts:
            return End("caught", success=False, reward=reward)
        if not self.pellets:
            parts = {"pellets": reward, "all": 1.0 - _PELLET_SHARE}
            return End("all eaten", success=True, parts=parts)
        moved = [self._move(number) for number in range(len(self.ghosts))]
        self.ghosts, self.came_from = moved, list(self.ghosts)
        if self.player in self.ghosts:
            return End("caught", success=False, parts={"pellets": reward})
        return Reply(self._look(), parts={"pellets": reward})

    def oracle(self) -> str:
        """The way to the nearest pellet among those that no ghost can reach next."""
        ways = exits(self.player, self.size)
        return min(
            ways,
            key=lambda way: (
                danger(ways[way], self.ghosts, self.size),
                nearest_pellet(ways[way], self.pellets, self.ghosts, self.size),
            ),
        )

    def mistake(self, rng: random.Random) -> str:
        """Any way that is open, wherever the ghosts are."""
        return rng.choice(list(exits(self.player, self.size)))

    def state(self) -> dict[str, Any]:
        """Where everything is."""
        return {
            "player": list(self.player),
            "pellets": sorted(list(cell) for cell in self.pellets),
            "ghosts": [list(ghost) for ghost in self.ghosts],
            "came_from": [cell and list(cell) for cell in self.came_from],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.player = tuple(state["player"])
        self.pellets = {tuple(cell) for cell in state["pellets"]}
        self.ghosts = [tuple(ghost) for ghost in state["ghosts"]]
        self.came_from = [cell and tuple(cell) for cell in state["came_from"]]

    def picture(self) -> str:
        """The whole board: C is Pac-Man, G a ghost, . a pellet."""
        return VIEWS["grid"](self.player, self.pellets, self.ghosts, self.size)

    def _look(self) -> str:
        return VIEWS[self.view](self.player, self.pellets, self.ghosts, self.size)

    def _move(self, number: int) -> Cell:
        ghost, back = self.ghosts[number], self.came_from[number]
        ways = [cell for cell in exits(ghost, self.size).values() if cell != back]
        if self.instance["ghosts"][number][0] == "wander":
            return self.rng.choice(ways)
        return min(ways, key=lambda cell: distances(cell, self.size)[self.player])
