"""The training loop: reproducible, resumable bit for bit, honest about what goes wrong."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import turnhalle as th
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import ConfigError, InterruptedRunError, StoreError, TaskError
from turnhalle.envs.options import EnvOptions
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import RunResult, Trainer


class Noting(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Broken(th.TextEnv):
    """Breaks in a quarter of its tasks."""

    max_turns = 2

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"up {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        if self.instance["n"] % 4 == 0 and self.task.split == "train":
            raise RuntimeError("out of order")
        return th.End("", success=len(action) % 2 == 0, reward=float(len(action) % 3))


class NeverWorks(Broken):
    """Breaks in every task that is trained on."""

    def respond(self, action: str) -> th.Reply:
        if self.task.split == "train":
            raise RuntimeError("out of order")
        return th.End("", success=True, reward=1.0)


class Chatty(th.TextEnv):
    """Goes on for four turns, whatever is said."""

    max_turns = 4

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"say {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        return th.Reply(f"more {len(action)}", reward=float(len(action) % 3))


def options(**changes: Any) -> TrainOptions:
    data: dict[str, Any] = {
        "env": {"id": "math"},
        "model": {"precision": "nf4", "device": "cpu", "lora_rank": 4},
        "rollout": {"tasks": 4, "group_size": 4, "max_new_tokens": 32},
        "evaluate": {"tasks": 10, "every": 2},
        "steps": 4,
        "checkpoint_every": 2,
    }
    return TrainOptions.model_validate(data | changes)


def train(given: TrainOptions, folder: Path, **rest: Any) -> RunResult:
    trainer = Trainer(given, folder, rest.pop("listener", Silent()), **rest)
    try:
        return trainer.run()
    finally:
        trainer.close()


def recorded(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All metrics but those that depend on the clock."""
    store = RunStore(folder, read_only=True)
    names = [name for name in store.metric_names() if not name.startswith("time/")]
    return {name: store.metrics(name) for name in names if name != "parity"}


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(options(), folder)
    return folder


def test_the_same_seed_gives_the_same_metrics_and_adapter(finished: Path, tmp_path: Path) -> None:
    train(options(), tmp_path / "again")
    assert recorded(tmp_path / "again") == recorded(finished)
    assert adapter_bytes(tmp_path / "again") == adapter_bytes(finished)
    train(options(seed=1), tmp_path / "other")
    assert adapter_bytes(tmp_path / "other") != adapter_bytes(finished)


def test_a_run_records_everything(finished: Path) -> None:
    store = RunStore(finished, read_only=True)
    assert store.evaluated_steps() == [0, 2, 4]
    for name in ("success", "return", "kl", "entropy", "clip_fraction", "grad_norm", "loss"):
        assert [step for step, _ in store.metrics(name)] == [1, 2, 3, 4], name
    assert len(store.episode_ids("train", 3)) == 16
    episode = store.episode(store.episode_ids("train", 3)[0])
    sampled = [s for turn in episode.turns for s in turn.segments if s.is_sampled]
    assert sampled[0].adapter_version == 2
    assert [p.name for p in sorted((finished / "checkpoints").iterdir())] == [
        "best",
        "step-000002",
        "step-000004",
    ]
    assert json.loads((finished / "adapter" / "adapter_config.json").read_text())["r"] == 4


def test_a_resumed_run_is_the_run_that_was_never_stopped(finished: Path, tmp_path: Path) -> None:
    class StopsAt(Silent):
        def step(self, step: int, metrics: Any) -> None:
            if step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError, match=f"--resume {folder}"):
        train(options(), folder, listener=StopsAt())
    train(options(), folder, resume=True)
    assert recorded(folder) == recorded(finished)
    assert adapter_bytes(folder) == adapter_bytes(finished)


def test_an_evaluation_that_was_interrupted_is_made_by_the_resumed_run(
    finished: Path, tmp_path: Path
) -> None:
    class StopsAt(Silent):
        done = 0

        def step(self, step: int, metrics: Any) -> None:
            self.done = step

        def progress(self, what: str, done: int, total: int) -> None:
            if what == "evaluation" and self.done == 2:
                os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "stopped"
    with pytest.raises(InterruptedRunError, match="after step 2 of 4"):
        train(options(), folder, listener=StopsAt())
    train(options(), folder, resume=True)
    assert RunStore(folder, read_only=True).evaluated_steps() == [0, 2, 4]
    assert recorded(folder) == recorded(finished)


def test_a_killed_run_goes_on_from_its_last_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from turnhalle.training.options import TrainOptions\n"
        "from turnhalle.training.progress import Silent\n"
        "from turnhalle.training.trainer import Trainer\n"
        "class Dies(Silent):\n"
        "    def progress(self, what, done, total):\n"
        "        if what == 'step 4' and done > 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "options = TrainOptions.model_validate_json(sys.argv[1])\n"
        "Trainer(options, Path(sys.argv[2]), Dies()).run()\n"
    )
    command = [sys.executable, "-c", code, options().model_dump_json(), str(folder)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert [step for step, _ in RunStore(folder, read_only=True).metrics("loss")] == [1, 2, 3]
    train(options(), folder, resume=True)
    assert recorded(folder) == recorded(finished)
    assert adapter_bytes(folder) == adapter_bytes(finished)


def test_a_finished_run_may_be_given_more_steps(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    train(options(steps=2), folder)
    result = train(options(steps=3), folder, resume=True)
    assert [step for step, _ in RunStore(folder, read_only=True).metrics("loss")] == [1, 2, 3]
    assert len(result.after.trajectories) == 10


def test_an_interrupted_evaluation_loses_nothing(tmp_path: Path) -> None:
    class StopsEarly(Silent):
        is_done = False

        def progress(self, what: str, done: int, total: int) -> None:
            # Episodes end in bunches, so no single count is sure to be seen.
            if what == "evaluation" and 0 < done < total and not self.is_done:
                self.is_done = True
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRunError, match="after step 0 of 4"):
        train(options(), tmp_path / "run", listener=StopsEarly())
    assert train(options(), tmp_path / "run", resume=True).folder == tmp_path / "run"


def test_existing_folders_are_never_overwritten(finished: Path, tmp_path: Path) -> None:
    before = adapter_bytes(finished)
    with pytest.raises(StoreError, match=f"--resume {finished}"):
        Trainer(options(), finished, Silent())
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="exists and is not empty"):
        Trainer(options(), tmp_path, Silent())
    assert adapter_bytes(finished) == before
    with pytest.raises(StoreError, match="holds no run"):
        Trainer(options(), tmp_path / "nothing", Silent(), resume=True)


def test_a_resumed_run_keeps_its_options(finished: Path) -> None:
    before = adapter_bytes(finished)
    for changes in ({"seed": 1}, {"credit": {"estimator": "ppo"}}, {"kl": {"weight": 0.1}}):
        name = next(iter(changes))
        with pytest.raises(ConfigError, match=f"only its steps may change: {name} was"):
            Trainer(options(**changes), finished, Silent(), resume=True)
    assert adapter_bytes(finished) == before


@pytest.mark.parametrize("estimator", ["grpo", "ppo"])
def test_a_step_without_an_episode_that_counts_changes_nothing(
    estimator: str, tmp_path: Path
) -> None:
    given = options(
        env={"id": f"{__file__}:NeverWorks"},
        credit={"estimator": estimator},
        kl={"weight": 0.1, "place": "reward"},
        evaluate={"tasks": 10, "every": 0},
        steps=1,
    )
    train(given, tmp_path / "run")
    metrics = recorded(tmp_path / "run")
    assert metrics["masked_episodes"] == [(1, 16.0)]
    assert "loss" not in metrics


def test_broken_episodes_are_masked_counted_and_written_down(tmp_path: Path) -> None:
    listener = Noting()
    given = options(env={"id": f"{__file__}:Broken"}, evaluate={"tasks": 10, "every": 0})
    train(given, tmp_path / "run", listener=listener)
    store = RunStore(tmp_path / "run", read_only=True)
    masked = sum(value for _, value in store.metrics("masked_episodes"))
    assert masked > 0
    assert len([kind for _, kind, _ in store.events() if kind == "env_error"]) == masked
    assert any("out of order" in note for note in listener.notes)


def test_a_hopeless_start_is_said_with_the_remedy(make_model: Any, tmp_path: Path) -> None:
    listener = Noting()
    given = options(
        model={"name": str(make_model()), "precision": "fp32", "device": "cpu"},
        steps=1,
        learn={"warmup_steps": 0},
    )
    train(given, tmp_path / "run", listener=listener)
    assert any("turnhalle prime --env math" in note for note in listener.notes)
    # Nothing was learned from, and nothing broke.
    store = RunStore(tmp_path / "run", read_only=True)
    assert store.metrics("skipped_groups") == [(1, 4.0)]


def test_training_does_not_start_where_the_engine_samples_another_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnhalle.agents.engines import local

    real = local.sample

    def wrong(logits: torch.Tensor, *rest: Any) -> Any:
        tokens, logprobs = real(logits, *rest)
        return tokens, logprobs + 0.01

    monkeypatch.setattr(local, "sample", wrong)
    with pytest.raises(RuntimeError, match="trainer and engine disagree"):
        train(options(), tmp_path / "run")


def test_what_cannot_work_is_refused_before_anything_starts(tmp_path: Path) -> None:
    started = time.perf_counter()
    with pytest.raises(ConfigError, match="plays only 16 episodes"):
        Trainer(options(learn={"minibatches": 17}), tmp_path / "a", Silent())
    with pytest.raises(LookupError, match="did you mean 'math'"):
        Trainer(options(env={"id": "maths"}), tmp_path / "a", Silent())
    with pytest.raises(ConfigError, match="attempts"):
        Trainer(options(env={"id": "math", "options": {"attempts": 0}}), tmp_path / "a", Silent())
    with pytest.raises(ValueError, match="no model 'tinny'"):
        Trainer(options(model={"name": "tinny"}), tmp_path / "a", Silent())
    assert time.perf_counter() - started < 5
    assert not (tmp_path / "a").exists()


def test_a_family_too_small_for_held_out_tasks_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "small.py"
    source.write_text(
        "import turnhalle as th\n"
        "class Small(th.TextEnv):\n"
        "    'Small.'\n"
        "    def draw(self, rng, difficulty): return {'n': rng.randrange(4)}\n"
        "    def start(self): return str(self.instance['n'])\n",
        encoding="utf-8",
    )
    with pytest.raises(TaskError, match="only 4 different tasks"):
        Trainer(options(env={"id": f"{source}:Small"}), tmp_path / "run", Silent())
    assert EnvOptions(id=f"{source}:Small").factory()().reset(seed=0)


@pytest.mark.parametrize(
    "chat",
    [
        {"history": "as-template"},
        {"history": "window", "window": 1},
        {"history": "summarise", "summarise_above": 40},
    ],
    ids=lambda chat: chat["history"],
)
def test_rewritten_histories_train_on_the_contexts_that_were_sampled_from(
    chat: dict[str, Any], tmp_path: Path, make_model: Any
) -> None:
    """The engine's log-probs, drawn in each branch, are the trainer's on the branch's sequence."""
    # Random weights write half characters, which a template can only write down as other tokens.
    model = str(make_model()) if chat["history"] == "as-template" else "tiny"
    given = options(
        env={"id": f"{__file__}:Chatty"},
        model={"name": model, "precision": "fp32", "device": "cpu", "lora_rank": 4},
        rollout={"tasks": 2, "group_size": 4, "max_new_tokens": 12},
        chat=chat,
        steps=1,
    )
    train(given, tmp_path / "run")
    store = RunStore(tmp_path / "run", read_only=True)
    assert store.metrics("drift/branches")[0][1] > 0
    assert store.metrics("parity")[0][1] < 1e-4
    assert len(store.metrics("loss")) == 1


@pytest.mark.parametrize("correction", [{}, {"level": "token"}], ids=["unset", "token"])
def test_tokens_of_top_p_weigh_what_was_kept(correction: dict[str, Any], tmp_path: Path) -> None:
    """The engine's log-probs before it left tokens out are the trainer's."""
    rollout = {"tasks": 4, "group_size": 4, "max_new_tokens": 32, "top_p": 0.8}
    every = {"tasks": 10, "every": 0}
    given = options(rollout=rollout, correction=correction, steps=1, evaluate=every)
    train(given, tmp_path / "run")
    store = RunStore(tmp_path / "run", read_only=True)
    assert store.metrics("parity")[0][1] < 1e-4
    assert 0.8 <= store.metrics("sampler/kept_mass")[0][1] < 1.0
    assert 0.9 < store.metrics("sampler/ess")[0][1] < 1.0
    assert store.metrics("kl")[0][1] < 1e-2
    if correction:
        assert store.metrics("sampler/kl")[0][1] < 1e-6
    for id in store.episode_ids("train") + store.episode_ids("eval"):
        for turn in store.episode(id).turns:
            for segment in filter(lambda s: s.is_sampled, turn.segments):
                assert len(segment.kept_mass or ()) == len(segment.token_ids)
                assert min(segment.kept_mass or ()) > 0.8 - 1e-6


def test_a_summary_that_would_never_be_asked_for_is_refused(tmp_path: Path) -> None:
    chat = {"history": "summarise", "summarise_above": 10**6}
    with pytest.raises(ConfigError, match="the context ends at"):
        Trainer(options(chat=chat), tmp_path / "run", Silent())


def test_three_updates_in_a_row_without_numbers_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnhalle.envs.errors import DivergedError
    from turnhalle.training import learner

    real = learner.score

    def broken(*given: Any) -> Any:
        scores = real(*given)
        poison = torch.full_like(scores.logprobs, torch.nan) if torch.is_grad_enabled() else 0.0
        return replace(scores, logprobs=scores.logprobs + poison)

    monkeypatch.setattr(learner, "score", broken)
    small = {"tasks": 2, "group_size": 4, "max_new_tokens": 24}
    given = options(rollout=small, evaluate={"tasks": 10, "every": 0}, steps=9)
    with pytest.raises(DivergedError, match=r"3 updates in a row .* task \d+ \(train\), rollout"):
        train(given, tmp_path / "run")
    events = RunStore(tmp_path / "run", read_only=True).events()
    assert {kind for _, kind, _ in events} >= {"not_finite"}
    assert all("left out" in text for _, kind, text in events if kind == "not_finite")


def test_a_run_that_reaches_its_target_stops_and_says_why(tmp_path: Path) -> None:
    listener = Noting()
    given = options(stop={"at_success": 0.05}, evaluate={"tasks": 10, "every": 1}, steps=9)
    result = train(given, tmp_path / "run", listener=listener)
    store = RunStore(tmp_path / "run", read_only=True)
    steps = [step for step, _ in store.metrics("success")]
    assert len(steps) < 9
    assert result.stopped is not None
    assert [event for event in store.events() if event[1] == "early_stop"] == [
        (steps[-1], "early_stop", result.stopped)
    ]
    assert any("stopping early" in note for note in listener.notes)
    # It goes on no further, and does not say it twice.
    assert train(given, tmp_path / "run", resume=True).stopped == result.stopped
    assert len([e for e in store.events() if e[1] == "early_stop"]) == 1


def test_training_goes_on_from_an_adapter_and_keeps_it_as_its_reference(
    finished: Path, tmp_path: Path
) -> None:
    """The reference is a copy: the run resumes after the first one is gone."""
    start = tmp_path / "start"
    shutil.copytree(finished / "adapter", start)
    given = options(
        start_from=str(start), kl={"weight": 0.05}, steps=1, evaluate={"tasks": 10, "every": 0}
    )
    train(given, tmp_path / "run")
    kept = tmp_path / "run" / "reference" / "adapter_model.safetensors"
    assert kept.read_bytes() == adapter_bytes(finished)
    assert adapter_bytes(tmp_path / "run") != adapter_bytes(finished)
    before = recorded(tmp_path / "run")
    shutil.rmtree(start)
    train(given.model_copy(update={"steps": 2}), tmp_path / "run", resume=True)
    after = recorded(tmp_path / "run")
    assert after["ref_kl"][:1] == before["ref_kl"]
    assert len(after["ref_kl"]) == 2


def test_environments_can_be_mixed_and_are_measured_apart(tmp_path: Path) -> None:
    given = options(mix=[{"env": {"id": "tools"}}], steps=1, evaluate={"tasks": 10, "every": 0})
    result = train(given, tmp_path / "run")
    assert len(result.after.trajectories) == 20
    metrics = recorded(tmp_path / "run")
    for id in ("turnhalle/Math-v0", "turnhalle/Tools-v0"):
        assert len(metrics[f"eval/success/{id}"]) == 2
