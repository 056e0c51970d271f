"""The curriculum is a value: difficulty follows from level, seed and step, and only rises."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from turnhalle.agents.core import Group, Trajectory
from turnhalle.agents.store import RunStore
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import InterruptedRunError
from turnhalle.envs.tasks import Task
from turnhalle.training.checkpoint import checkpoint_state, list_checkpoints
from turnhalle.training.curriculum import Curriculum, CurriculumOptions
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer

OPTIONS = CurriculumOptions(first=1, last=3, raise_at=0.75, window=2, review=0.25)


def group(difficulty: int, successes: list[bool], stop: StopReason = StopReason.FINISHED) -> Group:
    task = Task("env", "train", 0, difficulty, {})
    played = [Trajectory(task, n, success=s, stop=stop) for n, s in enumerate(successes)]
    return Group(task, played)


def test_it_goes_one_up_after_a_window_of_success() -> None:
    curriculum = Curriculum.begin(OPTIONS)
    good = [group(1, [True, True, True, False])]
    curriculum = curriculum.after(good)
    assert (curriculum.level, curriculum.recent) == (1, (0.75,))
    curriculum = curriculum.after(good)
    assert (curriculum.level, curriculum.recent) == (2, ())


def test_failure_in_the_window_keeps_the_level() -> None:
    curriculum = Curriculum.begin(OPTIONS)
    for success in (True, False, True, False):
        curriculum = curriculum.after([group(1, [success])])
    assert curriculum.level == 1


def test_only_episodes_at_the_level_that_are_not_masked_count() -> None:
    curriculum = Curriculum(OPTIONS, 2)
    assert curriculum.after([group(1, [True] * 4)]) == curriculum
    assert curriculum.after([group(2, [True] * 4, StopReason.ENV_ERROR)]) == curriculum
    after = curriculum.after([group(1, [False] * 9), group(2, [True])])
    assert after.recent == (1.0,)


def test_it_never_exceeds_the_last_level() -> None:
    curriculum = Curriculum(OPTIONS, 3)
    for _ in range(5):
        curriculum = curriculum.after([group(3, [True])])
    assert curriculum.level == 3


def test_some_tasks_review_what_is_easier_and_none_is_harder() -> None:
    curriculum = Curriculum(OPTIONS, 3)
    drawn = Counter(curriculum.difficulty(7, step, n) for step in range(50) for n in range(20))
    assert set(drawn) == {1, 2, 3}
    assert 0.7 < drawn[3] / 1000 < 0.8
    assert Curriculum.begin(OPTIONS).difficulty(7, 1, 1) == 1
    assert [curriculum.difficulty(7, 1, n) for n in range(20)] == [
        curriculum.difficulty(7, 1, n) for n in range(20)
    ]


def test_it_survives_json() -> None:
    curriculum = Curriculum(OPTIONS, 2, (0.5, 0.25))
    assert Curriculum.from_json(OPTIONS, json.loads(json.dumps(curriculum.to_json()))) == curriculum


def test_levels_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"first \(3\) must not exceed last \(2\)"):
        CurriculumOptions(first=3, last=2)


class _StopsDuring(Silent):
    """Asks to stop while a step is under way, as Ctrl-C does."""

    def progress(self, what: str, done: int, total: int) -> None:
        if what == "step 3":
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resumed_run_goes_on_in_its_curriculum(tmp_path: Path) -> None:
    options = TrainOptions.model_validate(
        {
            "env": {"id": "math"},
            "steps": 4,
            "curriculum": {"last": 4, "raise_at": 0.01, "window": 1},
            "rollout": {"tasks": 4, "group_size": 4, "max_new_tokens": 24},
            "evaluate": {"tasks": 10, "every": 0},
            "learn": {"warmup_steps": 1},
        }
    )

    def levels(folder: Path) -> list[tuple[int, float]]:
        return RunStore(folder, read_only=True).metrics("difficulty")

    Trainer(options, tmp_path / "whole", Silent()).run()
    with pytest.raises(InterruptedRunError):
        Trainer(options, tmp_path / "cut", _StopsDuring()).run()
    saved = checkpoint_state(list_checkpoints(tmp_path / "cut" / "checkpoints")[-1])
    assert saved["curriculum"]["level"] > 1
    Trainer(options, tmp_path / "cut", Silent(), resume=True).run()
    assert levels(tmp_path / "cut") == levels(tmp_path / "whole")
    assert levels(tmp_path / "whole")[-1][1] > 1
