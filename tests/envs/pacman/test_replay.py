"""Replays: what was played comes out of the file, and nothing in it can run or phone home."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import turnhalle as th
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.pacman.env import Pacman
from turnhalle.envs.pacman.pictures import pixels
from turnhalle.envs.pacman.replay import Replay, html, record, write_replay

HOSTILE = "</script><script>alert(1)</script> & <b>"


def played(difficulty: int = 3) -> tuple[Pacman, list[str]]:
    env = th.make("pacman", difficulty=difficulty)
    assert isinstance(env, Pacman)
    env.reset(seed=0)
    actions = []
    while not env.is_over:
        actions.append(env.oracle())
        env.step(actions[-1])
    return env, actions


def test_a_record_is_the_episode_again() -> None:
    env, actions = played()
    replay = record(env, env.task, actions)
    assert [frame.action for frame in replay.frames] == ["", *actions]
    assert replay.outcome == f"solved in {len(actions)} turns, return 1.00"
    assert len(replay.frames[0].game.pellets) == 12
    assert replay.frames[-1].game.pellets == set()


def test_the_page_holds_every_frame_and_needs_nothing_from_outside() -> None:
    env, actions = played()
    page = html(record(env, env.task, actions))
    assert not re.search(r"https?:|//\w|src=|@import|url\(", page)
    found = re.search(r"const replay = (.*);\n", page)
    assert found is not None
    data = json.loads(found[1])
    assert [frame["action"] for frame in data["frames"]] == ["", *actions]
    assert sum(len(frame["eaten"]) for frame in data["frames"]) == 12
    assert abs(sum(frame["reward"] for frame in data["frames"]) - 1) < 1e-3


def test_what_a_policy_said_cannot_run_in_the_page() -> None:
    env, actions = played()
    replay = record(env, env.task, [HOSTILE, *actions])
    page = html(Replay(HOSTILE, HOSTILE, replay.frames))
    assert page.count("</script>") == 1
    assert "alert(1)</" not in page


def test_an_unfinished_game_is_said_to_be_unfinished() -> None:
    env, actions = played()
    assert record(env, env.task, actions[:3]).outcome.startswith("not finished in 3 turns")


def test_a_gif_has_a_frame_for_every_turn(tmp_path: Path) -> None:
    env, actions = played(1)
    path = tmp_path / "deep" / "game.gif"
    env.export_replay(env.task, actions, path)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == len(actions) + 1
        first = np.asarray(image.convert("RGB")).astype(int)
    env.begin(env.task)
    board = pixels(env.game)
    assert np.abs(first[: board.shape[0]] - board).mean() < 4


def test_other_files_are_refused(tmp_path: Path) -> None:
    env, actions = played(1)
    with pytest.raises(ConfigError, match=r"\.html or \.gif"):
        write_replay(record(env, env.task, actions), tmp_path / "game.mp4")
