"""How far an update goes: its options, and the learning rate over a run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LearnOptions(BaseModel):
    """How the policy is updated."""

    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(2e-3, gt=0)
    """Peak of Adam's step size; large because only a small adapter is trained."""
    warmup_steps: int = Field(2, ge=0)
    final_share: float = Field(0.1, ge=0, le=1)
    """The learning rate falls along a line to this share of its peak."""
    minibatches: int = Field(2, ge=1)
    """Optimizer steps a batch; each sees its own part of the trajectories."""
    epochs: int = Field(1, ge=1)
    """Times that a batch is gone through; ratios are always to the policy before the first."""
    max_grad_norm: float = Field(0.3, gt=0)
    micro_batch_tokens: int = Field(16384, ge=1)
    """Tokens of one forward pass, padding included; bounds the memory."""
    packing: Literal["auto", "tree", "rows"] = "auto"
    """Shared prefixes are computed once, or with every sequence; auto is tree on a CPU."""
    shard: bool = False
    """With several processes, let each hold a part of the base's layers during updates (FSDP2);
    not with a base in 4 bits."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)


def scheduled_rate(options: LearnOptions, step: int, steps: int) -> float:
    """Learning rate of step 1 to `steps`: a linear warm-up, then a line to `final_share`.

    No warm-up outlasts the run: the last step at the latest has the full rate.
    """
    warmup = min(options.warmup_steps, steps - 1)
    if step <= warmup:
        return options.learning_rate * step / (warmup + 1)
    done = (step - warmup - 1) / max(1, steps - warmup - 1)
    return options.learning_rate * (1.0 + done * (options.final_share - 1.0))
