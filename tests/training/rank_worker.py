"""One of the processes of `test_ranks.py`: a joint update beside one computed alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from turnhalle.agents.core import Group, Segment, Trajectory, Turn
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.ranks import ALONE, World, open_world
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.tasks import Task
from turnhalle.training import learner as learner_module
from turnhalle.training.batch import Batch, make_batch
from turnhalle.training.credit.assign import Credit
from turnhalle.training.learn_options import LearnOptions
from turnhalle.training.learner import Learner, Update
from turnhalle.training.objective import Objective
from turnhalle.training.value import ValueOptions

CASES: dict[str, dict[str, Any]] = {
    "full": {"precision": "fp32", "is_full": True, "shard": True},
    "lora": {"precision": "fp32"},
    "sharded-base": {"precision": "fp32", "shard": True},
    "nf4": {"precision": "nf4"},
    "critic": {"precision": "fp32", "value": ValueOptions()},
    "one-episode": {"precision": "fp32", "shard": True, "episodes": 1},
    "small-parts": {"precision": "fp32", "shard": True, "micro_batch_tokens": 20},
    "not-finite": {"precision": "fp32", "poisoned": [2, 5]},
    "not-finite-sharded": {"precision": "fp32", "shard": True, "poisoned": [2, 5]},
}


def make_learner(model: str, case: dict[str, Any], world: World) -> Learner:
    held = ModelOptions(name=model, precision=case["precision"], device="cpu", lora_rank=4)
    is_full = case.get("is_full", False)
    lm = load_model(held, lora_seed=None if is_full else 0)
    if is_full:
        lm.model.requires_grad_(True)
    options = LearnOptions(
        minibatches=2 if case.get("episodes", 7) > 1 else 1,
        shard=case.get("shard", False),
        micro_batch_tokens=case.get("micro_batch_tokens", 16384),
    )
    return Learner(lm, options, 1.0, Objective(value=case.get("value")), world=world)


def make_batch_of(episodes: int) -> Batch:
    """Episodes of one turn and of many lengths; only the first has more than one turn."""
    rng = np.random.default_rng(0)
    task = Task("x", "train", 0, 1, {})
    played = []
    for number in range(episodes):
        turns = []
        for _ in range(2 if number == 0 else 1):
            seen = rng.integers(3, 250, 4 + 5 * number).tolist()
            sampled = rng.integers(3, 250, 3 + number).tolist()
            segments = [Segment(seen), Segment(sampled, [0.0] * len(sampled))]
            turns.append(Turn("", "", 0.0, segments=segments))
        played.append(Trajectory(task, number, turns, stop=StopReason.FINISHED))
    worth, targets = rng.normal(size=(2, episodes, 2))
    credit = Credit(worth, np.ones(episodes, dtype=bool), 1, 1, targets)
    return make_batch([Group(task, played)], credit)


@contextmanager
def poisoned(batch: Batch, episodes: list[int]) -> Iterator[None]:
    """Within the block the log-probs of some episodes are no numbers while they are trained."""
    real = learner_module.score
    longest = [len(batch.sequences[i]) for i in range(len(batch.sequences))]
    lengths = {longest[i] for i in range(len(longest)) if batch.episode[i] in episodes}

    def broken(lm: Any, part: Batch, *rest: Any) -> Any:
        scores = real(lm, part, *rest)
        bad = torch.tensor([len(part.sequences[s]) in lengths for s in part.sequence])
        scores.logprobs.data[bad] = torch.nan
        return scores

    learner_module.score = broken  # type: ignore[assignment]
    try:
        yield
    finally:
        learner_module.score = real


def updated(
    model: str, case: dict[str, Any], world: World
) -> tuple[Update, torch.Tensor, torch.Tensor, Any]:
    """The update, the weights before and after it, and how the learner then scores its batch."""
    one, batch = make_learner(model, case, world), make_batch_of(case.get("episodes", 7))
    sampled = one._score_all(batch)
    batch = replace(batch, sampler_logprob=sampled, old_logprob=sampled, ref_logprob=sampled)
    before = torch.cat([p.detach().flatten() for p in one.trained().values()])
    with poisoned(batch, case.get("poisoned", [])):
        done = one.update(batch, 1e-4, seed=0)
    after = torch.cat([p.detach().flatten() for p in one.trained().values()])
    return done, before, after, one._score_all(batch)


def compare(model: str, case: dict[str, Any], world: World) -> dict[str, Any]:
    alone, before, after, scores = updated(model, case, ALONE)
    joint, same_before, same_after, same_scores = updated(model, case, world)
    assert torch.equal(before, same_before)
    return {
        "metrics": [alone.metrics, joint.metrics],
        "dropped": [sorted(alone.dropped), sorted(joint.dropped)],
        "moved": float((after - before).abs().max()),
        "weights": float((after - same_after).abs().max()),
        "scores": float(np.abs(scores - same_scores).max()),
    }


class UnsendableError(Exception):
    """Keeps something that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("cannot be sent")
        self.kept = lambda: None


def talk(world: World) -> dict[str, Any]:
    """What ranks hear of one another."""

    def failing(error: Exception) -> str:
        def work() -> int:
            if world.rank == 1:
                raise error
            return 0

        try:
            world.together(work)
        except Exception as raised:
            return f"{type(raised).__name__}: {raised}"
        return "nothing"

    tensors = [torch.full((2,), float(world.rank + 1)), torch.arange(3.0)]
    world.add(tensors)
    return {
        "spread": world.spread(range(5), lambda own: [(i, world.rank) for i in own]),
        "first": world.first(lambda: f"rank {world.rank}"),
        "exchange": world.another().exchange(world.rank),
        "sum": [t.tolist() for t in tensors],
        "error": failing(ConfigError("wrong")),
        "unsendable": failing(UnsendableError()),
    }


def main() -> None:
    model, out = sys.argv[1], Path(sys.argv[2])
    with open_world("cpu") as world:
        found: dict[str, Any] = {name: compare(model, c, world) for name, c in CASES.items()}
        try:
            make_learner(model, {"precision": "nf4", "shard": True}, world)
        except ConfigError as error:
            found["refused"] = str(error)
        found["talk"] = talk(world)
        (out / f"rank-{world.rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
