"""Supervised fine-tuning on examples: cross-entropy on action tokens, full weights, AdamW.

With `snap` the forward pass sees weights snapped to NF4 and gradients pass straight through, so
that the model loses nothing when it is held in 4 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn.utils import parametrize

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.quantize import snap
from turnhalle.envs.seeding import derive_rng
from turnhalle.kernels.logprob import token_logprobs

from .demos import Example

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
    snap: bool = True
    """Train with, and end with, weights that NF4 holds exactly."""


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
    """Train all weights of a model on examples.

    Args:
        lm: The model; changed in place.
        examples: What to imitate; gone through as often as `steps` asks for.
        options: How.
        seed: Of the order of the examples.
        on_step: Called after each step with its number, from 1, and its loss in nats a token;
            True ends the training.
    """
    model = lm.model
    model.requires_grad_(True)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay
    )
    batches = _batches(examples, options.batch_tokens, seed)
    if options.snap:
        _snap_layers(lm)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _schedule(step, options)
        loss = _loss(lm, next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, options.max_grad_norm)
        optimizer.step()
        if on_step is not None and on_step(step + 1, loss.item()):
            break
    if options.snap:
        _keep_snapped(lm)
    model.requires_grad_(False)


def _loss(lm: LanguageModel, batch: list[Example]) -> torch.Tensor:
    """Mean negative log-likelihood of the action tokens of a batch, in nats."""
    longest = max(len(example.token_ids) for example in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    is_action = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, example in enumerate(batch):
        ids[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        is_action[row, : len(example.is_action)] = torch.tensor(example.is_action)
    ids, is_action = ids.to(lm.device), is_action.to(lm.device)
    hidden = lm.hidden_states(ids)
    # The hidden state before a token predicts it.
    predicts = is_action[:, 1:]
    logprobs, _ = token_logprobs(hidden[:, :-1][predicts], lm.head, ids[:, 1:][predicts])
    return -logprobs.mean()


def _batches(examples: Sequence[Example], tokens: int, seed: int) -> Iterator[list[Example]]:
    """Batches of about equal length without end, every example once an epoch."""
    epoch = 0
    while True:
        rng = derive_rng("sft order", seed, epoch)
        order = rng.sample(range(len(examples)), len(examples))
        mean = sum(len(e.token_ids) for e in examples) / len(examples)
        bucket = max(1, int(_BUCKET_BATCHES * tokens / mean))
        batches: list[list[Example]] = []
        for start in range(0, len(order), bucket):
            part = [examples[i] for i in order[start : start + bucket]]
            batches += _split(sorted(part, key=lambda e: len(e.token_ids)), tokens)
        rng.shuffle(batches)
        yield from batches
        epoch += 1


def _split(examples: list[Example], tokens: int) -> list[list[Example]]:
    batches: list[list[Example]] = [[]]
    for example in examples:
        if batches[-1] and (len(batches[-1]) + 1) * len(example.token_ids) > tokens:
            batches.append([])
        batches[-1].append(example)
    return batches


def _schedule(step: int, options: SftOptions) -> float:
    warm = min(1.0, (step + 1) / (options.warmup_steps + 1))
    done = step / max(1, options.steps)
    return warm * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done)))


def _linears(lm: LanguageModel) -> list[Any]:
    """The layers that NF4 holds: all linear ones but the head."""
    head = lm.model.get_output_embeddings()
    return [m for m in lm.model.modules() if isinstance(m, torch.nn.Linear) and m is not head]


def _snap_layers(lm: LanguageModel) -> None:
    for layer in _linears(lm):
        parametrize.register_parametrization(layer, "weight", _Snapped())


def _keep_snapped(lm: LanguageModel) -> None:
    for layer in _linears(lm):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        layer.weight.data = snap(layer.weight.data)
