"""TRL's own code on given numbers: the reference that ours is compared with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.training.losses.rows import Rows

B, T = 4, 6


@dataclass
class Draw:
    """Random log-probs of ragged completions with tokens of the environment between."""

    mask: torch.Tensor
    new: torch.Tensor
    old: torch.Tensor
    ref: torch.Tensor
    sampler: torch.Tensor
    advantages: torch.Tensor

    @property
    def index(self) -> tuple[torch.Tensor, torch.Tensor]:
        row, column = torch.nonzero(self.mask.bool(), as_tuple=True)
        return row, column

    def rows(self, new: torch.Tensor) -> Rows:
        row, column = self.index
        # A turn is a run of sampled tokens.
        turn = row * T + (self.mask == 0).long().cumsum(1)[row, column]
        return Rows(new[row, column], self.old[row, column], self.advantages[row], row, turn)

    def inputs(self) -> dict[str, torch.Tensor]:
        """What TRL's loss takes."""
        return {
            "mask": self.mask,
            "old_per_token_logps": self.old,
            "advantages": self.advantages,
        }


def draw(seed: int) -> Draw:
    rng = np.random.default_rng(seed)
    mask = np.ones((B, T), dtype=np.int64)
    for row in range(B):
        mask[row, rng.integers(3, T + 1) :] = 0
        mask[row, rng.integers(1, 3)] = 0

    def logprobs(near: np.ndarray, by: float) -> np.ndarray:
        return near + by * rng.normal(size=(B, T))

    new = -rng.exponential(size=(B, T))
    old = logprobs(new, 0.3)
    arrays = (new, old, logprobs(new, 0.5), logprobs(old, 0.05), rng.normal(size=B))
    return Draw(torch.from_numpy(mask), *(torch.from_numpy(a) for a in arrays))


def configured(
    built: Any, *, loss_type: str = "dapo", beta: float = 0.0, epsilon: float = 0.2, **config: Any
) -> Any:
    """TRL's trainer as its constructor would have set it up."""
    built.loss_type, built.beta, built.use_vllm = loss_type, beta, False
    built.epsilon_low = epsilon
    built.epsilon_high = config.pop("epsilon_high", epsilon)
    built.importance_sampling_level = config.pop("importance_sampling_level", "token")
    built.max_completion_length = config.pop("max_completion_length", 256)
    defaults = {"delta": None, "use_bias_correction_kl": True, "sapo_temperature_neg": 1.05}
    for name, value in (defaults | config).items():
        assert hasattr(built.args, name)
        setattr(built.args, name, value)
    return built


def compare(
    theirs: torch.Tensor, new: torch.Tensor, ours: torch.Tensor, again: torch.Tensor
) -> None:
    theirs.backward()
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9, abs=1e-12)
    assert new.grad is not None
    assert again.grad is not None
    assert torch.allclose(again.grad, new.grad, rtol=1e-9, atol=1e-12)


def counts(rows: Rows) -> torch.Tensor:
    """`[M]` rows of each row's episode."""
    return torch.bincount(rows.sequence)[rows.sequence]


def leaves(given: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    return given.new.clone().requires_grad_(), given.new.clone().requires_grad_()


_UNTRAINED: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "disable_tqdm": True,
}
"""Options of trainers of which only a loss is called."""


def trl_trainer(model: Path, folder: Path, **config: Any) -> Any:
    """A `GRPOTrainer` of TRL that never trains: only its `_compute_loss` is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        arguments = GRPOConfig(
            output_dir=str(folder),
            **_UNTRAINED,
            num_generations=2,
            per_device_train_batch_size=4,
            **config,
        )
        trainer = GRPOTrainer(
            model=str(model),
            args=arguments,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_dict({"prompt": ["a", "b", "c", "d"]}),
        )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def trl_loss(
    trainer: Any,
    logprobs: torch.Tensor,
    inputs: dict[str, torch.Tensor],
    entropies: torch.Tensor | None = None,
) -> torch.Tensor:
    """TRL's loss of per-token log-probs `[B, T]`; `inputs` as in its own batches."""
    shape = logprobs.shape
    completion_mask = inputs.pop("mask")
    none = torch.zeros(shape, dtype=logprobs.dtype)
    found = (logprobs, none if entropies is None else entropies, None)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: found
    ids = torch.zeros(shape, dtype=torch.long)
    given = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones_like(ids[:, :1]),
        "completion_ids": ids,
        "completion_mask": torch.ones_like(ids),
        "tool_mask": completion_mask,
        "num_items_in_batch": completion_mask.sum(),
        **inputs,
    }
    loss: torch.Tensor = trainer._compute_loss(trainer.model, given)
    return loss


@contextmanager
def in_float64() -> Iterator[None]:
    """TRL makes tensors of the default type on its way."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def trl_scored(
    trainer: Any,
    rewards: torch.Tensor,
    *,
    mask: torch.Tensor,
    logprobs: list[torch.Tensor],
    sampler: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """What TRL makes of rollouts before its loss: advantages, and ratios to the sampler.

    Args:
        trainer: A `GRPOTrainer` or `RLOOTrainer`.
        rewards: `[N]`, NaN where nothing could be said.
        mask: `[N, C]` sampled tokens.
        logprobs: `[N, C]` each, what its model says when it is asked, in turn.
        sampler: `[N, C]` log-probs that the tokens were sampled with.
    """
    count, length = mask.shape
    ids = [[3] * length] * count
    asked = iter(logprobs)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (next(asked), None, None)
    trainer._calculate_rewards = lambda *_: rewards[:, None]
    texts = ["x"] * count
    played: tuple[Any, ...] = ([[3]] * count, ids, texts)
    if hasattr(trainer, "use_vllm") and hasattr(trainer, "tools"):
        scores = None if sampler is None else sampler.tolist()
        played = ([[3]] * count, ids, mask.tolist(), texts, scores, {}, None, None)
    trainer._generate = lambda _: played
    trainer.model.train()
    with in_float64(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done: dict[str, torch.Tensor] = trainer._generate_and_score_completions(
            [{"prompt": "a"} for _ in range(count)]
        )
    return done


def rloo_trainer(model: Path, folder: Path, **config: Any) -> Any:
    """An `RLOOTrainer` of TRL that never trains."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import RLOOConfig, RLOOTrainer

        arguments = RLOOConfig(
            output_dir=str(folder),
            **_UNTRAINED,
            num_generations=4,
            per_device_train_batch_size=4,
            **config,
        )
        return RLOOTrainer(
            model=str(model),
            args=arguments,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_dict({"prompt": ["a", "b", "c", "d"]}),
        )


def dpo_trainer(model: Path, folder: Path, **config: Any) -> Any:
    """A `DPOTrainer` of TRL that never trains: only its `_compute_loss` is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        arguments = DPOConfig(
            output_dir=str(folder),
            **_UNTRAINED,
            **config,
        )
        pair = {"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]}
        return DPOTrainer(model=str(model), args=arguments, train_dataset=Dataset.from_dict(pair))
