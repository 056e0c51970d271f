"""Supervised fine-tuning on examples: cross-entropy on action tokens, AdamW.

All weights of a model are trained, or the adapter that is on it. With `snap` the forward pass sees
weights snapped to NF4 and gradients pass straight through, so that the model loses nothing when it
is held in 4 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.utils import parametrize

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.quantization.bnb import linears
from turnhalle.agents.quantization.snap import snap
from turnhalle.envs.seeding import derive_rng

from .demos import Example
from .packing import ROWS, pack

Item = TypeVar("Item")

_BUCKET_BATCHES = 16
"""Examples are sorted by length within this many batches: little padding, random enough."""


class SftOptions(BaseModel):
    """How to imitate."""

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(800, ge=1)
    batch_tokens: int = Field(2048, ge=64)
    """Tokens of a batch, padding included."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak; warmed up over `warmup_steps`, then along a cosine to a tenth."""
    warmup_steps: int = Field(20, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    snap: bool | None = None
    """Train with, and end with, weights that NF4 holds exactly; None does where all weights are
    trained."""


class _Snapped(torch.nn.Module):
    """Parametrisation: the forward pass sees the snapped weight, the gradient the plain one."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (snap(weight) - weight).detach()


def fit(
    lm: LanguageModel,
    examples: Sequence[Example],
    options: SftOptions,
    seed: int,
    on_step: Callable[[int, float], bool] | None = None,
) -> None:
    """Train a model, or the adapter on it, on examples.

    Args:
        lm: The model; changed in place.
        examples: What to imitate; gone through as often as `steps` asks for.
        options: How.
        seed: Of the order of the examples.
        on_step: Called after each step with its number, from 1, and its loss in nats a token;
            True ends the training.
    """
    batches = batches_of(examples, lambda e: len(e.token_ids), options.batch_tokens, seed)

    def loss() -> torch.Tensor:
        logprobs, _ = action_logprobs(lm, next(batches))
        return -logprobs.mean()

    descend(lm, loss, options, on_step)


def descend(
    lm: LanguageModel,
    loss: Callable[[], torch.Tensor],
    options: SftOptions,
    on_step: Callable[[int, float], bool] | None = None,
) -> None:
    """Train a model or its adapter; `loss` is asked for the next batch's, `on_step` as in `fit`."""
    is_full = lm.peft is None
    if is_full:
        lm.model.requires_grad_(True)
    parameters = list(lm.trainable().values())
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay
    )
    is_snapped = is_full and options.snap is not False
    if is_snapped:
        _snap_layers(lm)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _schedule(step, options)
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, options.max_grad_norm)
        optimizer.step()
        if on_step is not None and on_step(step + 1, value.item()):
            break
    if is_snapped:
        _keep_snapped(lm)
    if is_full:
        lm.model.requires_grad_(False)


def action_logprobs(
    lm: LanguageModel, batch: Sequence[Example]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of the action tokens of a batch, in nats, and for each one its example's number."""
    packed = pack([np.array(example.token_ids, dtype=np.int64) for example in batch], ROWS)
    # No state predicts the first token.
    actions = [1 + np.flatnonzero(example.is_action[1:]) for example in batch]
    nodes = [path[chosen] for path, chosen in zip(packed.paths, actions, strict=True)]
    logprobs, _ = packed.logprobs(lm, packed.states(lm), np.concatenate(nodes))
    row = np.repeat(np.arange(len(batch)), [len(chosen) for chosen in actions])
    return logprobs, torch.from_numpy(row).to(lm.device)


def batches_of(
    items: Sequence[Item], length: Callable[[Item], int], tokens: int, seed: int
) -> Iterator[list[Item]]:
    """Batches of about equal length without end, every item once an epoch."""
    epoch = 0
    while True:
        rng = derive_rng("sft order", seed, epoch)
        order = rng.sample(range(len(items)), len(items))
        mean = sum(length(item) for item in items) / len(items)
        bucket = max(1, int(_BUCKET_BATCHES * tokens / mean))
        batches: list[list[Item]] = []
        for start in range(0, len(order), bucket):
            part = [items[i] for i in order[start : start + bucket]]
            batches += _split(sorted(part, key=length), length, tokens)
        rng.shuffle(batches)
        yield from batches
        epoch += 1


def _split(items: list[Item], length: Callable[[Item], int], tokens: int) -> list[list[Item]]:
    batches: list[list[Item]] = [[]]
    for item in items:
        if batches[-1] and (len(batches[-1]) + 1) * length(item) > tokens:
            batches.append([])
        batches[-1].append(item)
    return batches


def _schedule(step: int, options: SftOptions) -> float:
    warm = min(1.0, (step + 1) / (options.warmup_steps + 1))
    done = step / max(1, options.steps)
    return warm * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))


def _snap_layers(lm: LanguageModel) -> None:
    for layer in linears(lm.model).values():
        parametrize.register_parametrization(layer, "weight", _Snapped())


def _keep_snapped(lm: LanguageModel) -> None:
    for layer in linears(lm.model).values():
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        layer.weight.data = snap(layer.weight.data)
