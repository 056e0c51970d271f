"""Pac-Man: the rules, the views, the ghosts."""

from __future__ import annotations

import pytest

import turnhalle as th
from turnhalle.envs.pacman.env import Pacman
from turnhalle.envs.pacman.maze import distances, exits, open_cells
from turnhalle.envs.pacman.views import sensor


def board(
    player: tuple[int, int], pellets: list[tuple[int, int]], ghost: tuple[int, int]
) -> Pacman:
    env = Pacman()
    env.reset(seed=0)
    env.instance["ghosts"] = [["wander", *ghost]]
    env.player, env.pellets, env.ghosts, env.came_from = player, set(pellets), [ghost], [None]
    env.num_pellets = len(pellets)
    return env


@pytest.mark.parametrize("size", [5, 7, 9])
def test_mazes_have_no_dead_ends_and_hang_together(size: int) -> None:
    cells = open_cells(size)
    assert all(len(exits(cell, size)) >= 2 for cell in cells)
    assert set(distances(cells[0], size)) == set(cells)


def test_eating_pays_by_the_pellet_and_all_of_them_the_rest() -> None:
    env = board((0, 0), [(0, 1), (0, 2)], (4, 4))
    assert env.step("right")[1] == 0.25
    observation, reward, terminated, _, info = env.step("right")
    assert (observation, terminated, info["success"]) == ("all eaten", True, True)
    assert reward == 0.75
    assert info["parts"] == {"pellets": 0.25, "all": 0.5}


def test_walking_into_a_ghost_ends_the_game() -> None:
    env = board((0, 0), [(4, 4)], (0, 1))
    observation, reward, terminated, _, info = env.step("right")
    assert (observation, reward, terminated, info["success"]) == ("caught", 0.0, True, False)


def test_walls_and_nonsense_leave_pacman_where_he_is() -> None:
    env = board((0, 0), [(4, 4)], (4, 0))
    for action in ("up", "jump", ""):
        env.step(action)
        assert env.player == (0, 0)
    env.step(" Right ")
    assert env.player == (0, 1)


def test_ghosts_never_turn_back() -> None:
    env = board((0, 0), [(4, 4)], (2, 2))
    path = [(2, 2)]
    for _ in range(20):
        if env.is_over:
            break
        env.step("wait")
        path.append(env.ghosts[0])
    assert len(path) > 3
    assert all(a != c for a, c in zip(path, path[2:], strict=False))


def test_a_chasing_ghost_takes_the_shortest_way() -> None:
    env = board((0, 0), [(4, 4)], (0, 4))
    env.instance["ghosts"] = [["chase", 0, 4]]
    env.step("wait")
    assert env.ghosts == [(0, 3)]


def test_the_sensor_reads_walls_steps_and_danger() -> None:
    assert sensor((0, 0), {(0, 2)}, [(4, 4)], 5) == "up # down 3 left # right 1"
    # The ghost stands on the way, so the only way is around; both exits are next to nothing else.
    assert sensor((0, 0), {(0, 2)}, [(0, 1)], 5) == "up # down 5 left # right 1!"
    assert sensor((0, 0), {(0, 2)}, [(0, 2)], 5) == "up # down - left # right -!"


def test_the_grid_shows_everything() -> None:
    env = th.make("pacman", view="grid", render_mode="ansi")
    observation, _ = env.reset(seed=0)
    assert env.render() == observation
    assert observation.count("C") == observation.count("G") == 1
    assert observation.count(".") == 3
    assert observation.count("#") == 4


@pytest.mark.parametrize("difficulty", [1, 2, 3, 4])
def test_no_ghost_starts_close(difficulty: int) -> None:
    env = th.make("pacman", difficulty=difficulty)
    for task in range(50):
        env.reset(options={"task": task})
        player = tuple(env.instance["player"])
        for _, row, column in env.instance["ghosts"]:
            assert distances(player, 5)[row, column] >= 3  # type: ignore[index]
