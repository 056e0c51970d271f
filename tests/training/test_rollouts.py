"""Batches that are played ahead: by which adapter, beside which update, and what a stop leaves."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import DivergedError, EngineError, InterruptedRunError
from turnhalle.training import rollouts
from turnhalle.training.learner import Learner
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer

Metrics = dict[str, list[tuple[int, float]]]


def options(**changes: Any) -> TrainOptions:
    """Small, with everything that a batch begun early hangs on: a curriculum, refills."""
    data: dict[str, Any] = {
        "env": {"id": "math"},
        "model": {"precision": "fp32", "device": "cpu", "lora_rank": 4},
        "engine": {"parity_every": 1},
        "rollout": {
            "tasks": 4,
            "group_size": 4,
            "max_new_tokens": 24,
            "max_refills": 2,
            "lookahead": 1,
        },
        "curriculum": {"last": 3, "raise_at": 0.2, "window": 1},
        "learn": {"learning_rate": 3e-3, "warmup_steps": 0},
        "evaluate": {"tasks": 10, "every": 2},
        "steps": 4,
        "checkpoint_every": 3,
        "seed": 1,  # each step has a group that teaches
    }
    return TrainOptions.model_validate(data | changes)


def train(given: TrainOptions, folder: Path, listener: Any = None, **rest: Any) -> None:
    trainer = Trainer(given, folder, listener or Silent(), **rest)
    try:
        trainer.run()
    finally:
        assert "rollouts" not in {thread.name for thread in threading.enumerate()}
        trainer.close()


def left_behind(folder: Path) -> tuple[Metrics, list[set[int]], bytes]:
    """Metrics (not those of the clock), adapter versions that played each step, the adapter."""
    store = RunStore(folder, read_only=True)
    names = [n for n in store.metric_names() if not n.startswith("time/") and n != "parity"]
    metrics = {name: store.metrics(name) for name in names}
    versions = []
    for step, _ in store.metrics("success"):
        played = [store.episode(id) for id in store.episode_ids("train", step)]
        segments = [s for t in played for turn in t.turns for s in turn.segments]
        versions.append({s.adapter_version for s in segments if s.is_sampled})
    store.close()
    return metrics, versions, (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(options(), folder)
    return folder


def test_every_batch_is_played_by_the_adapter_before_the_last(whole: Path) -> None:
    metrics, versions, _ = left_behind(whole)
    assert versions == [{0}, {0}, {1}, {2}]
    assert metrics["staleness"] == [(1, 0.0), (2, 1.0), (3, 1.0), (4, 1.0)]
    assert metrics["staleness_max"] == metrics["staleness"]
    assert [step for step, _ in metrics["eval/success"]] == [0, 2, 4]


def test_a_batch_is_compared_with_the_adapter_that_played_it(whole: Path) -> None:
    """Each step moved the policy by far more than parity allows."""
    store = RunStore(whole, read_only=True)
    compared = [step for step, _ in store.metrics("loss")]  # where anything was learned from
    assert [step for step, _ in store.metrics("parity")] == compared
    assert max(compared) > 1
    assert max(value for _, value in store.metrics("parity")) < 1e-4
    store.close()


def test_the_curriculum_has_heard_of_the_step_before(whole: Path) -> None:
    """As without a lookahead: what a step played is known before the next one is begun."""
    difficulty = dict(left_behind(whole)[0]["difficulty"])
    assert difficulty[1] == 1.0
    store = RunStore(whole, read_only=True)
    for step in range(1, 4):
        played = [store.episode(id) for id in store.episode_ids("train", step)]
        at_level = [t for t in played if t.task.difficulty == difficulty[step]]
        is_solved = sum(t.success for t in at_level) >= 0.2 * len(at_level)
        assert difficulty[step + 1] == min(3.0, difficulty[step] + is_solved)
    store.close()
    assert len(set(difficulty.values())) > 1


def test_what_runs_beside_a_batch_changes_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, in one thread, gives the same bytes."""

    def at_once(work: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work())
        return future

    monkeypatch.setattr(rollouts, "_in_thread", at_once)
    train(options(), tmp_path / "run")
    assert left_behind(tmp_path / "run") == left_behind(whole)


@pytest.mark.parametrize("at", [1, 3])
def test_a_stopped_run_plays_the_batch_that_it_had_begun_by_the_same_adapter(
    whole: Path, tmp_path: Path, at: int
) -> None:
    class StopsAt(Silent):
        def step(self, step: int, metrics: Any) -> None:
            if step == at:
                os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError, match=f"after step {at} of 4"):
        train(options(), folder, StopsAt())
    train(options(), folder, resume=True)
    assert left_behind(folder) == left_behind(whole)


def test_the_next_batch_plays_during_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update waits for it here; one that was begun later would never come."""
    began, real = threading.Event(), Learner.update

    class Hears(Silent):
        def progress(self, what: str, done: int, total: int) -> None:
            if what == "step 2":
                began.set()

    def update(self: Learner, *given: Any) -> Any:
        assert began.wait(60)
        return real(self, *given)

    monkeypatch.setattr(Learner, "update", update)
    given = options(steps=2, evaluate={"tasks": 10, "every": 0})
    train(given, tmp_path / "run", Hears())
    assert began.is_set()


def test_a_run_that_ends_early_leaves_nothing_of_what_it_had_begun(tmp_path: Path) -> None:
    is_stopping, finished = threading.Event(), []

    class Holds(Silent):
        """Holds the second batch at its first turn, until the run stops."""

        def note(self, text: str) -> None:
            if "stopping early" in text:
                is_stopping.set()

        def progress(self, what: str, done: int, total: int) -> None:
            if what == "step 2":
                assert is_stopping.wait(60)
                finished.append(done == total)

    given = options(stop={"min_entropy": 100.0, "patience": 1}, evaluate={"tasks": 10, "every": 0})
    train(given, tmp_path / "run", Holds())
    assert finished
    assert not any(finished)
    store = RunStore(tmp_path / "run", read_only=True)
    assert store.evaluated_steps() == [0, 1]
    assert [step for step, _ in store.metrics("success")] == [1]
    store.close()


def test_what_fails_ahead_is_raised_and_what_fails_beside_it_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnhalle.agents.engines import local

    real = local.TransformersEngine.step

    def broken(self: Any) -> Any:
        if threading.current_thread().name == "rollouts":
            raise EngineError("no current")
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(local.TransformersEngine, "step", broken)
        with pytest.raises(EngineError, match="no current"):
            train(options(), tmp_path / "a")

    def diverges(self: Learner, *_: Any) -> None:
        raise DivergedError("no finite gradient")

    monkeypatch.setattr(Learner, "update", diverges)
    with pytest.raises(DivergedError):
        train(options(), tmp_path / "b")


def test_another_sampler_than_the_recorded_one_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third batch is sampled by weights that no update made."""
    from turnhalle.agents.engines import local

    real = local.TransformersEngine.load_adapter

    def wrong(self: Any, version: int, tensors: Any) -> None:
        real(self, version, tensors)
        if version == 1:
            with torch.no_grad():
                for parameter in self._lm.trainable().values():
                    parameter.add_(0.02)

    monkeypatch.setattr(local.TransformersEngine, "load_adapter", wrong)
    given = options(evaluate={"tasks": 10, "every": 0})
    with pytest.raises(EngineError, match="trainer and engine disagree"):
        train(given, tmp_path / "run")
