"""What policies read and people see: sensors, grid, scene, colours, pixels."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

import turnhalle as th
from turnhalle.envs.pacman.env import Pacman
from turnhalle.envs.pacman.game import Game
from turnhalle.envs.pacman.ghosts import EYES, FRIGHTENED, Ghost
from turnhalle.envs.pacman.maze import Cell, lattice
from turnhalle.envs.pacman.pictures import FRIGHT, GHOSTS, PACMAN, WALLS, pixels, text, tile_size
from turnhalle.envs.pacman.views import grid, scene, sensors


def game(player: Cell, pellets: set[Cell], *ghosts: Ghost, **more: Any) -> Game:
    return Game(lattice(5), player, pellets, more.pop("power", set()), list(ghosts), **more)


def ghost(row: int, column: int, kind: str = "chase", mood: str = "hunting") -> Ghost:
    return Ghost(kind, (row, column), (row, column), mood=mood)


def test_the_sensors_read_walls_steps_and_danger() -> None:
    assert sensors(game((0, 0), {(0, 2)}, ghost(4, 4)), None) == "up # down 3 left # right 1"
    # The ghost stands on the way, so the only way is around.
    blocked = game((0, 0), {(0, 2)}, ghost(0, 1))
    assert sensors(blocked, None) == "up # down 5 left # right 1!"
    assert sensors(game((0, 0), {(0, 2)}, ghost(0, 2)), None) == "up # down - left # right -!"


def test_the_sensors_fear_no_frightened_ghost_and_no_eyes() -> None:
    for mood in (FRIGHTENED, EYES):
        seen = sensors(game((0, 0), {(0, 2)}, ghost(0, 1, mood=mood), fright=7), None)
        assert seen == "up # down 3 left # right 1 power 7"


def test_a_window_hides_what_is_far() -> None:
    position = game((0, 0), {(0, 4)}, ghost(2, 0))
    assert sensors(position, None) == "up # down 5! left # right 3"
    assert sensors(position, 1) == "up # down - left # right -"
    assert grid(position, 1).split("\n")[:3] == ["###", "#C ", "# #"]
    assert "ghost" not in scene(position, 1)


def test_the_grid_shows_everything() -> None:
    position = game(
        (0, 0), {(0, 1), (4, 4)}, ghost(2, 0), ghost(2, 2, mood=FRIGHTENED), ghost(2, 4, mood=EYES),
        power={(4, 4)}, lives=2, fright=5,
    )  # fmt: skip
    assert grid(position, None).split("\n") == [
        "C.   ", " # # ", "G g e", " # # ", "    o", "score 0, lives 2, pellets 2, power for 5",
    ]  # fmt: skip


def test_the_scene_says_it_in_words() -> None:
    position = game((0, 2), {(0, 4), (4, 4)}, ghost(2, 2), heading="right", power={(4, 4)})
    assert scene(position, None) == (
        "You are at a crossing, facing right.\n"
        "Up: a wall.\n"
        "Down: open, the nearest pellet in 4 steps.\n"
        "Left: open, the nearest pellet in 4 steps.\n"
        "Right: open, the nearest pellet in 2 steps.\n"
        "A chasing ghost is 2 down: 2 steps away if you go down.\n"
        "A power pellet is 6 steps away.\n"
        "2 pellets left, 1 life, score 0."
    )


def test_the_text_picture_has_a_colour_for_each_kind_of_ghost() -> None:
    shown = text(game((0, 0), {(4, 4)}, *(ghost(0, 1 + i, kind) for i, kind in enumerate(GHOSTS))))
    for colour in (PACMAN, WALLS, *GHOSTS.values()):
        assert "\x1b[38;2;{};{};{}m".format(*colour) in shown


@pytest.mark.parametrize(("row", "column"), [(0, 0), (4, 4), (2, 0)])
def test_pixels_show_pacman_and_the_ghosts_where_they_are(row: int, column: int) -> None:
    position = game((row, column), {(4, 0)}, ghost(0, 4, "ambush"), ghost(2, 2, mood=FRIGHTENED))
    drawn = pixels(position)
    tile = tile_size(position.maze)
    assert drawn.shape == (7 * tile, 7 * tile, 3)
    assert drawn.dtype == np.uint8

    def has(colour: tuple[int, int, int], at: Cell) -> bool:
        top, left = (at[0] + 1) * tile, (at[1] + 1) * tile
        square = drawn[top : top + tile, left : left + tile].astype(int)
        return bool((np.abs(square - colour).sum(axis=-1) < 12).any())

    assert has(PACMAN, (row, column))
    assert has(GHOSTS["ambush"], (0, 4))
    assert has(FRIGHT, (2, 2))
    assert not has(PACMAN, (2, 3))


def test_the_mouth_looks_where_pacman_goes() -> None:
    drawn = {
        way: pixels(game((2, 2), {(4, 4)}, ghost(0, 0), heading=way))
        for way in ("up", "down", "left", "right")
    }
    assert (drawn["up"][::-1] == drawn["down"]).mean() > 0.9
    tile = tile_size(lattice(5))
    middle = 3 * tile + tile // 2
    for way, (down, right) in {"up": (-1, 0), "left": (0, -1), "right": (0, 1)}.items():
        at, behind = ((middle + s * down * 12, middle + s * right * 12) for s in (1, -1))
        assert tuple(drawn[way][at]) != PACMAN
        assert tuple(drawn[way][behind]) == PACMAN


@pytest.mark.parametrize("difficulty", [1, 6])
def test_gymnasium_renders_both_modes(difficulty: int) -> None:
    made = {}
    for mode in ("ansi", "rgb_array"):
        env = gymnasium.make("turnhalle/Pacman-v0", difficulty=difficulty, render_mode=mode)
        env.reset(seed=0)
        made[mode] = env.render()
    assert isinstance(made["ansi"], str)
    assert isinstance(made["rgb_array"], np.ndarray)
    assert Pacman.metadata["render_modes"] == ["ansi", "rgb_array"]


@pytest.mark.parametrize("view", ["sensors", "grid", "scene"])
def test_every_view_has_rules_that_speak_of_it(view: str) -> None:
    env = th.make("pacman", view=view, difficulty=3)
    _, info = env.reset(seed=0)
    rules = info["messages"][0].content
    assert {"sensors": "steps to", "grid": "C is you", "scene": "what you see"}[view] in rules
    assert "power pellet" in rules
