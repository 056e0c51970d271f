"""Killed anywhere, with everything on, a run goes on as if it had never been stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import turnhalle as th
from turnhalle.agents import adapters
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.store import RunStore
from turnhalle.training.checkpoint import list_checkpoints
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer

KILLERS = {
    "mid-rollout": """
class Dies(Silent):
    def progress(self, what, done, total):
        if what == "step 3" and done > 2: kill()
listener = Dies()
""",
    "mid-update": """
listener, real = Silent(), Learner._clip
calls = []
def clip(self):
    calls.append(1)
    if len(calls) == 5: kill()
    return real(self)
Learner._clip = clip
""",
    "mid-checkpoint": """
listener, real = Silent(), checkpoint._optimizer_state
calls = []
def state(learner):
    calls.append(1)
    if len(calls) == 3: kill()
    return real(learner)
checkpoint._optimizer_state = state
""",
    "before-the-checkpoint": """
class Dies(Silent):
    def step(self, step, metrics):
        if step == 2: kill()
listener = Dies()
""",
}
_CODE = """
import os, signal, sys
from pathlib import Path
from turnhalle.training import checkpoint
from turnhalle.training.learner import Learner
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer
def kill(): os.kill(os.getpid(), signal.SIGKILL)
{killer}
options = TrainOptions.model_validate_json(sys.argv[1])
Trainer(options, Path(sys.argv[2]), listener).run()
"""


def options(lookahead: int) -> TrainOptions:
    """Critic, price on KL in the reward, correction, epochs: all that has a state."""
    return TrainOptions.model_validate(
        {
            "env": {"id": "math"},
            "model": {"precision": "nf4", "device": "cpu", "lora_rank": 4},
            "rollout": {
                "tasks": 3,
                "group_size": 3,
                "max_new_tokens": 20,
                "lookahead": lookahead,
            },
            "overlong": {"buffer_tokens": 4},
            "credit": {"estimator": "ppo", "gamma": 0.9},
            "kl": {"weight": 0.01, "place": "reward", "estimator": "k1"},
            "correction": {"level": "geometric"},
            "learn": {"epochs": 2, "minibatches": 1},
            "evaluate": {"tasks": 10, "every": 0},
            "steps": 3,
            "checkpoint_every": 1,
        }
    )


def mixed(start: Path) -> TrainOptions:
    """Two environments, refills, a reference adapter, top-p, and an early stop after step 3."""
    return TrainOptions.model_validate(
        {
            "env": {"id": "math"},
            "mix": [{"env": {"id": "tools"}}],
            "model": {"precision": "nf4", "device": "cpu", "lora_rank": 4},
            "start_from": str(start),
            "rollout": {
                "tasks": 3,
                "group_size": 4,
                "max_new_tokens": 24,
                "max_refills": 3,
                "top_p": 0.95,
            },
            "credit": {"estimator": "gigpo", "gamma": 0.9},
            "kl": {"weight": 0.05},
            "evaluate": {"tasks": 10, "every": 2},
            "stop": {"max_kl": 1e-9},
            "steps": 9,
            "checkpoint_every": 1,
        }
    )


def left_behind(folder: Path) -> tuple[Any, ...]:
    """Metrics (not those of the clock), events, the best step, adapter and critic."""
    store = RunStore(folder, read_only=True)
    names = [n for n in store.metric_names() if not n.startswith("time/") and n != "parity"]
    metrics = {name: store.metrics(name) for name in names}
    episodes, events = len(store.episode_ids("train")), store.events()
    store.close()
    checkpoints = folder / "checkpoints"
    last = list_checkpoints(checkpoints)[-1]
    critic: dict[str, Any] = {}
    if (last / "critic.safetensors").exists():
        critic = {k: v.tolist() for k, v in load_file(last / "critic.safetensors").items()}
    adapter = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
    best = (checkpoints / "best").resolve().name
    return metrics, episodes, events, best, critic, adapter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TrainOptions], tuple[Any, ...]]:
    """What the run leaves behind that nobody stops."""
    known: dict[str, tuple[Any, ...]] = {}

    def run(given: TrainOptions) -> tuple[Any, ...]:
        name = given.model_dump_json()
        if name not in known:
            folder = tmp_path_factory.mktemp("runs") / "whole"
            trainer = Trainer(given, folder, Silent())
            trainer.run()
            trainer.close()
            known[name] = left_behind(folder)
        return known[name]

    return run


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that is not the base."""
    held = ModelOptions(precision="fp32", device="cpu", lora_rank=4)
    lm, folder = load_model(held, lora_seed=1), tmp_path_factory.mktemp("adapters") / "start"
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in lm.trainable().items():
            if "lora_B" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    adapters.save(lm, folder)
    return folder


def killed(given: TrainOptions, folder: Path, place: str) -> None:
    """Run until the kill, and go on from what it left."""
    code = _CODE.format(killer=KILLERS[place])
    command = [sys.executable, "-c", code, given.model_dump_json(), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    store = RunStore(folder, read_only=True)
    saved = TrainOptions.model_validate(store.get("options"))
    store.close()
    trainer = Trainer(saved, folder, Silent(), resume=True)
    trainer.run()
    trainer.close()


@pytest.mark.parametrize(
    ("place", "lookahead"),
    [
        ("mid-rollout", 0),
        ("mid-checkpoint", 0),
        pytest.param("mid-update", 0, marks=pytest.mark.slow),
        pytest.param("before-the-checkpoint", 0, marks=pytest.mark.slow),
        ("mid-rollout", 1),  # which is beside an update, or after it
        pytest.param("mid-update", 1, marks=pytest.mark.slow),
        pytest.param("mid-checkpoint", 1, marks=pytest.mark.slow),
        pytest.param("before-the-checkpoint", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(
    whole: Any, tmp_path: Path, place: str, lookahead: int
) -> None:
    given = options(lookahead)
    killed(given, tmp_path / "killed", place)
    assert left_behind(tmp_path / "killed") == whole(given)
    metrics, _, _, _, critic, _ = whole(given)
    mismatch = dict(metrics["sampler/kl"])
    assert mismatch[1] < 1e-6  # what is a step old is not the policy any more, and is weighed
    assert (mismatch[2] > 1e-6) == (mismatch[3] > 1e-6) == bool(lookahead)
    assert any(critic["weight"])  # the critic has learned something


@pytest.mark.parametrize(
    "place",
    [
        "mid-rollout",
        *(
            pytest.param(place, marks=pytest.mark.slow)
            for place in ("mid-update", "mid-checkpoint", "before-the-checkpoint")
        ),
    ],
)
def test_so_does_one_of_several_environments_that_stops_early(
    whole: Any, start: Path, tmp_path: Path, place: str
) -> None:
    given = mixed(start)
    killed(given, tmp_path / "killed", place)
    assert left_behind(tmp_path / "killed") == whole(given)
    metrics, _, events, _, _, _ = whole(given)
    assert [step for step, _ in metrics["kl"]] == [1, 2, 3]
    assert [kind for _, kind, _ in events].count("early_stop") == 1
    assert sum(n for _, n in metrics["refilled_groups"]) > 0
    assert metrics["sampler/kept_mass"][0][1] < 1.0
    assert {"eval/success/turnhalle/Math-v0", "eval/success/turnhalle/Tools-v0"} <= set(metrics)


class Slow(th.TextEnv):
    """Blocks, and writes down every task that it is asked to play."""

    metadata = {**th.TextEnv.metadata, "blocking": True}  # noqa: RUF012
    max_turns = 2

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"say {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        if self.turn == 1 and self.task.split == "train":
            with Path(os.environ["TURNHALLE_PLAYED"]).open("a", encoding="utf-8") as file:
                file.write(f"{self.task.index}\n")
        if self.turn == 2:
            time.sleep(0.05 * (self.instance["n"] % 8))
        return th.Reply("more", reward=float(len(action) % 3))


def sampled(folder: Path) -> list[list[int]]:
    """The tokens that were sampled in training, episode by episode."""
    store = RunStore(folder, read_only=True)
    episodes = [store.episode(id) for id in store.episode_ids("train")]
    store.close()
    return [
        [token for turn in episode.turns for s in turn.segments if s.is_sampled
         for token in s.token_ids]
        for episode in episodes
    ]  # fmt: skip


def played(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_where_a_batch_is_dear_its_finished_rollouts_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second batch, the run plays only what was not finished of it."""
    given = TrainOptions.model_validate(
        {
            "env": {"id": f"{__file__}:Slow"},
            "model": {"precision": "fp32", "device": "cpu", "lora_rank": 4},
            "rollout": {"tasks": 4, "group_size": 4, "max_new_tokens": 8},
            "evaluate": {"tasks": 10, "every": 0},
            "steps": 2,
            "checkpoint_every": 1,
        }
    )
    monkeypatch.setenv("TURNHALLE_PLAYED", str(tmp_path / "whole.txt"))
    trainer = Trainer(given, tmp_path / "whole", Silent())
    trainer.run()
    trainer.close()
    assert played(tmp_path / "whole.txt") == 2 * 16
    assert not list((tmp_path / "whole" / "begun").iterdir())

    log, folder = tmp_path / "killed.txt", tmp_path / "killed"
    monkeypatch.setenv("TURNHALLE_PLAYED", str(log))
    killer = KILLERS["mid-rollout"].replace("step 3", "step 2").replace("done > 2", "done > 5")
    command = [sys.executable, "-c", _CODE.format(killer=killer), given.model_dump_json(), folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = played(log)
    trainer = Trainer(given, folder, Silent(), resume=True)
    trainer.run()
    trainer.close()
    again = played(log) - before
    assert 0 < again <= 10, "six of the batch of sixteen were finished at least"
    assert not list((folder / "begun").iterdir())
    # What came in another order was computed beside others: the same tokens, other roundings.
    assert sampled(folder) == sampled(tmp_path / "whole")
    files = [f / "adapter" / "adapter_model.safetensors" for f in (folder, tmp_path / "whole")]
    ours, theirs = (load_file(file) for file in files)
    difference = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    assert difference < 0.05 * given.learn.learning_rate
