"""Mazes: no dead ends, in one piece, without bridges, mirrored at the classic size."""

from __future__ import annotations

import random

import pytest

from turnhalle.envs.pacman.generate import CLASSIC, classic_maze, small_maze
from turnhalle.envs.pacman.maze import HOUSE, OPEN, Cell, Maze, lattice, parse

SEEDS = range(8)


def mazes() -> list[tuple[str, Maze]]:
    found = [(f"pillars {size}", lattice(size)) for size in (5, 7, 9)]
    for seed in SEEDS:
        found += [
            (f"{size} {seed}", parse(tuple(small_maze(random.Random(seed), size))))
            for size in (5, 7, 13, 31)
        ]
        found.append((f"classic {seed}", parse(tuple(classic_maze(random.Random(seed))))))
    return found


def reached(maze: Maze, start: Cell, without: frozenset[Cell]) -> set[Cell]:
    """All cells that can be reached from one without the step between the two others."""
    seen, waiting = {start}, [start]
    while waiting:
        cell = waiting.pop()
        for other in maze.neighbours[cell]:
            if other not in seen and {cell, other} != without:
                seen.add(other)
                waiting.append(other)
    return seen


@pytest.mark.parametrize(("name", "maze"), mazes(), ids=[name for name, _ in mazes()])
def test_a_maze_has_no_dead_ends_and_hangs_together(name: str, maze: Maze) -> None:
    assert all(len(exits) >= 2 for exits in maze.neighbours.values())
    assert set(maze.distances(maze.cells[0])) == set(maze.cells)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_step_of_a_generated_maze_is_the_only_way(seed: int) -> None:
    maze = parse(tuple(small_maze(random.Random(seed), 9)))
    for cell in maze.cells:
        for other in maze.neighbours[cell]:
            without = frozenset((cell, other))
            assert reached(maze, maze.cells[0], without) == set(maze.cells)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_classic_maze_is_mirrored_and_has_a_border_a_tunnel_and_a_house(seed: int) -> None:
    rows = classic_maze(random.Random(seed))
    assert (len(rows), len(rows[0])) == CLASSIC
    assert all(row == row[::-1] for row in rows)
    maze = parse(tuple(rows))
    assert maze.has_border
    tunnel = [row for row in range(maze.height) if rows[row][0] == OPEN]
    assert len(tunnel) == 1
    left, right = (tunnel[0], 0), (tunnel[0], maze.width - 1)
    assert maze.exits[left]["left"] == right
    assert maze.exits[right]["right"] == left
    assert any(HOUSE in row for row in rows)
    assert not any(HOUSE in row for row in (rows[0], rows[-1]))


def test_the_same_seed_draws_the_same_maze_and_another_another() -> None:
    assert classic_maze(random.Random(3)) == classic_maze(random.Random(3))
    assert len({tuple(small_maze(random.Random(seed), 13)) for seed in range(50)}) == 50


def test_a_small_maze_does_not_wrap_around() -> None:
    assert "left" not in lattice(5).exits[0, 0]


def test_steps_around_an_obstacle_are_counted() -> None:
    maze = lattice(5)
    assert maze.steps_around((0, 0), {(0, 2)}, [], 99) == 2
    assert maze.steps_around((0, 0), {(0, 2)}, [(0, 1)], 99) == 6
    assert maze.steps_around((0, 0), {(0, 2)}, [(0, 1), (1, 0)], 99) == 99
