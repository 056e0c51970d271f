"""TRL's own loss on given log-probs: the reference that ours is compared with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch


def trl_trainer(model: Path, folder: Path, **config: Any) -> Any:
    """A `GRPOTrainer` of TRL that never trains: only its `_compute_loss` is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        arguments = GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            num_generations=2,
            per_device_train_batch_size=4,
            report_to=[],
            disable_tqdm=True,
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


def trl_loss(trainer: Any, logprobs: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """TRL's loss of per-token log-probs `[B, T]`; `inputs` as in its own batches."""
    shape = logprobs.shape
    completion_mask = inputs.pop("mask")
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (
        logprobs,
        torch.zeros(shape, dtype=logprobs.dtype),
        None,
    )
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
