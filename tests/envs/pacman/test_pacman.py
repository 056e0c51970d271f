"""Pac-Man: the rules, the ghosts, the difficulties, the options."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.audit.core import Subject, audit
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.pacman.env import Pacman
from turnhalle.envs.pacman.game import FRIGHT_MOVES
from turnhalle.envs.pacman.ghosts import EYES, FRIGHTENED, HUNTING, Ghost
from turnhalle.envs.pacman.levels import LEVELS
from turnhalle.envs.pacman.maze import Cell, lattice
from turnhalle.envs.registry import resolve

# Of 400 transcripts at default options, recorded before there were other options.
TRAINED_ON = "6fdc634b610b82dac78ab8a916552c04"


def board(player: Cell, pellets: list[Cell], *ghosts: tuple[str, Cell], **options: Any) -> Pacman:
    """A 5x5 maze of pillars with everything where the test wants it."""
    env = Pacman(**options)
    env.reset(seed=0)
    game = env.game
    game.player, game.pellets, game.home = player, set(pellets), player
    game.ghosts = [Ghost(kind, cell, cell) for kind, cell in ghosts]
    env.num_pellets = len(pellets)
    return env


def test_the_default_game_is_the_one_that_the_built_in_policy_was_trained_on() -> None:
    digest = hashlib.blake2b(digest_size=16)
    for split in ("train", "eval"):
        for index in range(200):
            env = th.make("turnhalle/Pacman-v0")
            observation, info = env.reset(options={"task": index, "split": split})
            rng = random.Random(index)
            rules = info["messages"][0].content
            digest.update(json.dumps([env.task.to_json(), observation, rules]).encode())
            while not env.is_over:
                wrong, action = env.mistake(rng), env.oracle()
                if rng.random() < 0.2:
                    action = wrong or action
                seen, reward, terminated, truncated, info = env.step(action)
                turn = [action, wrong, seen, reward, terminated, truncated, info.get("success")]
                digest.update(json.dumps(turn).encode())
    assert digest.hexdigest() == TRAINED_ON


def test_eating_pays_by_the_pellet_and_all_of_them_the_rest() -> None:
    env = board((0, 0), [(0, 1), (0, 2)], ("wander", (4, 4)))
    assert env.step("right")[1] == 0.25
    observation, reward, terminated, _, info = env.step("right")
    assert (observation, terminated, info["success"]) == ("all eaten", True, True)
    assert reward == 0.75
    assert info["parts"] == {"pellets": 0.25, "all": 0.5}


def test_walking_into_a_ghost_ends_the_game() -> None:
    env = board((0, 0), [(4, 4)], ("wander", (0, 1)))
    observation, reward, terminated, _, info = env.step("right")
    assert (observation, reward, terminated, info["success"]) == ("caught", 0.0, True, False)


def test_walls_and_nonsense_leave_pacman_where_he_is() -> None:
    env = board((0, 0), [(4, 4)], ("wander", (4, 0)))
    for action in ("up", "jump", ""):
        env.step(action)
        assert env.game.player == (0, 0)
    env.step(" Right ")
    assert env.game.player == (0, 1)


def test_being_caught_costs_a_life_and_everyone_goes_home() -> None:
    env = board((0, 0), [(4, 4)], ("chase", (0, 2)), lives=2)
    observation, _, terminated, _, _ = env.step("right")
    assert terminated is False
    assert observation.startswith("caught, 1 life left\n")
    assert (env.game.player, env.game.ghosts[0].cell) == ((0, 0), (0, 2))
    assert env.step("right")[2] is True


def test_ghosts_never_turn_back() -> None:
    env = board((0, 0), [(4, 4)], ("wander", (2, 2)), lives=9)
    path = [(2, 2)]
    while not env.is_over and env.game.lives == 9:
        env.step("wait")
        path.append(env.game.ghosts[0].cell)
    assert len(path) > 3
    assert all(a != c for a, c in zip(path, path[2:], strict=False))


def test_a_chasing_ghost_takes_the_shortest_way_and_rests_every_fourth_move() -> None:
    env = board((0, 0), [(4, 4)], ("chase", (4, 2)), size=9)
    env.game.pellets = {(8, 8)}
    steps = lattice(9).distances((0, 0))
    away = []
    for _ in range(4):
        env.step("wait")
        away.append(steps[env.game.ghosts[0].cell])
    assert away == [5, 4, 3, 3]


def test_an_ambushing_ghost_aims_ahead_of_pacman() -> None:
    env = board((4, 0), [(8, 8)], ("ambush", (4, 4)), ("chase", (4, 4)), size=9)
    env.step("right")  # he is at (4, 1) and looks right: in four steps he is at (4, 5)
    assert [ghost.cell for ghost in env.game.ghosts] == [(4, 5), (4, 3)]


def test_a_patrol_visits_the_corners_until_pacman_comes_near() -> None:
    env = board((12, 0), [(8, 8)], ("patrol", (0, 2)), size=13, max_turns=99)
    env.game.pellets = {(12, 12)}
    visited = set()
    for _ in range(24):
        env.step("wait")
        visited.add(env.game.ghosts[0].cell)
    assert {(0, 0), (0, 12)} <= visited
    env.game.player = (4, 12)
    cell = env.game.ghosts[0].cell
    steps = lattice(13).distances((4, 12))
    env.game.ghosts = [Ghost("patrol", (2, 12), cell, corner=0)]
    env.step("wait")
    assert steps[env.game.ghosts[0].cell] == 1


def test_a_power_pellet_lets_pacman_eat_ghosts_that_then_go_home() -> None:
    env = board((0, 0), [(0, 1), (4, 4)], ("chase", (0, 3)), lives=2)
    env.game.power = {(0, 1)}
    env.game.ghosts = [Ghost("chase", (0, 2), (4, 2))]
    env.step("right")
    assert env.game.ghosts[0].mood in (FRIGHTENED, EYES)
    env.game.ghosts = [Ghost("chase", (0, 2), (4, 2), mood=FRIGHTENED)]
    env.step("right")
    assert env.game.ghosts[0].mood == EYES
    assert env.game.score == 50 + 200
    assert env.game.lives == 2
    for _ in range(6):
        env.step("wait")
    assert env.game.ghosts[0].mood == HUNTING


def test_frightened_ghosts_recover() -> None:
    env = board((0, 0), [(0, 1), (4, 4)], ("wander", (4, 2)), lives=9, max_turns=100)
    env.game.power = {(0, 1)}
    env.step("right")
    assert env.game.fright == FRIGHT_MOVES - 1
    env.game.ghosts = [Ghost("wander", (4, 2), (4, 2), mood=FRIGHTENED)]
    for _ in range(FRIGHT_MOVES - 1):
        env.game.player = (0, 0)
        env.game.ghosts = [env.game.ghosts[0]._replace(cell=(4, 2), back=None)]
        env.step("wait")
    assert (env.game.fright, env.game.ghosts[0].mood) == (0, HUNTING)


@pytest.mark.parametrize(("difficulty", "tasks"), [(1, 50), (2, 50), (3, 50), (4, 20), (5, 3)])
def test_the_oracle_wins_at_every_difficulty(difficulty: int, tasks: int) -> None:
    wins = [play(th.make("pacman", difficulty=difficulty), task) for task in range(tasks)]
    assert wins.count(1.0) >= 0.98 * tasks - 1


@pytest.mark.slow
@pytest.mark.parametrize("difficulty", [2, 3, 4, 5, 6])
def test_the_oracle_passes_the_audit_at_every_difficulty(difficulty: int) -> None:
    found = audit(Subject(resolve("pacman", difficulty=difficulty), is_quick=True))
    assert [finding for finding in found if not finding.is_ok] == []


def test_the_oracle_wins_in_the_classic_maze() -> None:
    assert play(th.make("pacman", difficulty=6), 0) == 1.0


def play(env: th.TextEnv, task: int) -> float:
    """What the oracle earns."""
    env.reset(options={"task": task})
    earned = 0.0
    while not env.is_over:
        earned += env.step(env.oracle())[1]
    return round(earned, 6)


@pytest.mark.parametrize("difficulty", LEVELS)
def test_no_ghost_starts_close(difficulty: int) -> None:
    env = th.make("pacman", difficulty=difficulty)
    assert isinstance(env, Pacman)
    for task in range(5):
        env.reset(options={"task": task})
        steps = env.game.maze.distances(env.game.player)
        assert min(steps[ghost.cell] for ghost in env.game.ghosts) >= 3
        assert len(env.game.ghosts) == len(LEVELS[difficulty].ghosts)


@pytest.mark.parametrize("difficulty", [3, 6])
def test_a_state_survives_json_in_the_middle_of_a_game(difficulty: int) -> None:
    env = th.make("pacman", difficulty=difficulty)
    env.reset(seed=1)
    for _ in range(20):
        env.step(env.oracle())
    twin = env.anew()
    twin.set_state(json.loads(json.dumps(env.get_state())))
    for _ in range(10):
        action = env.oracle()
        assert twin.oracle() == action
        assert twin.step(action) == env.step(action)


def test_options_change_the_game() -> None:
    options: dict[str, Any] = {"size": 9, "pellets": "all", "ghosts": ["ambush"], "lives": 4}
    env = th.make("pacman", difficulty=2, power_pellets=2, **options)
    assert isinstance(env, Pacman)
    env.reset(seed=0)
    game = env.game
    assert (game.maze.height, game.lives, [ghost.kind for ghost in game.ghosts]) == (
        9,
        4,
        ["ambush"],
    )
    assert len(game.pellets) == len(game.maze.cells) - 1
    assert len(game.power) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 6}, "odd number"),
        ({"size": 33}, "at most 31"),
        ({"size": "clasic"}, "did you mean 'classic'"),
        ({"view": "scenes"}, "did you mean 'scene'"),
        ({"ghosts": ["hunt"]}, "unknown ghost 'hunt'"),
        ({"ghosts": ["chaser"]}, "did you mean 'chase'"),
        ({"ghosts": "chase"}, "must be a list"),
        ({"ghosts": []}, "1 to 8 ghosts"),
        ({"pellets": 17}, "pellets must be 1 to 16"),
        ({"lives": 0}, "at least 1"),
        ({"power_pellets": 4}, "0 to the number of pellets"),
        ({"window": 0}, "at least 1"),
        ({"window": "2"}, "a number"),
        ({"pellets": 2.5}, "pellets must be 1 to 16"),
        ({"size": True}, "odd number"),
        ({"difficulty": 7}, "from 1 to 6"),
    ],
)
def test_what_cannot_be_played_is_refused_with_what_can(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        th.make("pacman", **options)
