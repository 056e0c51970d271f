"""The learner: a batch in, one update of the adapter out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents.engines.parity import require_parity
from turnhalle.agents.lm import LanguageModel
from turnhalle.envs.seeding import derive_rng
from turnhalle.kernels.logprob import token_logprobs

from .batch import Batch
from .losses import clipped


class LearnOptions(BaseModel):
    """How the policy is updated."""

    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(2e-3, gt=0)
    """Peak of Adam's step size; large because only a small adapter is trained."""
    warmup_steps: int = Field(2, ge=0)
    final_share: float = Field(0.1, ge=0, le=1)
    """The learning rate falls along a line to this share of its peak."""
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    minibatches: int = Field(2, ge=1)
    """Optimizer steps a batch; each sees its own part of the trajectories."""
    epochs: int = Field(1, ge=1)
    max_grad_norm: float = Field(0.3, gt=0)
    micro_batch_tokens: int = Field(16384, ge=1)
    """Tokens of one forward pass, padding included; bounds the memory."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.99, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)


class Learner:
    """Updates the adapter of a model by clipped policy gradients."""

    def __init__(self, lm: LanguageModel, options: LearnOptions, temperature: float) -> None:
        self.lm = lm
        self.options = options
        self.temperature = temperature
        self.parameters = list(lm.trainable().values())
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )

    def update(self, batch: Batch, learning_rate: float, seed: int) -> dict[str, float]:
        """Train on a batch; the metrics are means over its rows, or over its optimizer steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        totals: dict[str, float] = {}
        updates = 0
        for epoch in range(self.options.epochs):
            for part in self._minibatches(batch, seed, epoch):
                for name, value in self._step(part).items():
                    totals[name] = totals.get(name, 0.0) + value
                updates += 1
        grad_norm = totals.pop("grad_norm")
        rows = batch.num_rows * self.options.epochs
        return {name: value / rows for name, value in totals.items()} | {
            "grad_norm": grad_norm / updates
        }

    @torch.no_grad()
    def check_parity(self, batch: Batch) -> float:
        """Compare the trainer's log-probs with the engine's on real tokens.

        Returns:
            The largest difference, in nats.

        Raises:
            EngineError: They disagree: what is sampled is not what is trained.
        """
        parts = batch.micro_batches(self.options.micro_batch_tokens)
        sampled = torch.cat([self._tensor(part.sampler_logprob) for part in parts])
        return require_parity(
            self.lm, sampled, lambda: torch.cat([self._score(part)[0] for part in parts])
        )

    def _minibatches(self, batch: Batch, seed: int, epoch: int) -> list[Batch]:
        count = min(self.options.minibatches, len(batch.sequences))
        order = list(range(len(batch.sequences)))
        derive_rng("minibatches", seed, epoch).shuffle(order)
        return [batch.select(part.tolist()) for part in np.array_split(order, count)]

    def _step(self, minibatch: Batch) -> dict[str, float]:
        """One optimizer step; sums over rows, and the gradient's norm before clipping."""
        options = self.options
        self.optimizer.zero_grad(set_to_none=True)
        sums = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0, "entropy": 0.0}
        for part in minibatch.micro_batches(options.micro_batch_tokens):
            logprobs, entropy = self._score(part)
            rows = clipped(
                logprobs,
                self._tensor(part.sampler_logprob),
                self._tensor(part.advantage),
                options.clip_low,
                options.clip_high,
            )
            # Token mean over the whole minibatch, so the split in micro-batches changes nothing.
            (rows.loss.sum() / minibatch.num_rows).backward()
            sums["loss"] += float(rows.loss.detach().sum())
            sums["kl"] += float(rows.kl.sum())
            sums["clip_fraction"] += float(rows.is_clipped.sum())
            sums["entropy"] += float(entropy.sum())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, options.max_grad_norm)
        self.optimizer.step()
        return sums | {"grad_norm": float(norm)}

    def _score(self, part: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies `[M]` of the rows' tokens, at the sampling temperature."""
        ids = _pad(part.sequences).to(self.lm.device)
        sequence = torch.from_numpy(part.sequence).to(self.lm.device)
        position = torch.from_numpy(part.position).to(self.lm.device)
        hidden = self.lm.hidden_states(ids)[sequence, position - 1]
        return token_logprobs(hidden, self.lm.head, ids[sequence, position], self.temperature)

    def _tensor(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.lm.device)


def scheduled_rate(options: LearnOptions, step: int, steps: int) -> float:
    """Learning rate of step 1 to `steps`: a linear warm-up, then a line to `final_share`.

    No warm-up outlasts the run: the last step at the latest has the full rate.
    """
    warmup = min(options.warmup_steps, steps - 1)
    if step <= warmup:
        return options.learning_rate * step / (warmup + 1)
    done = (step - warmup - 1) / max(1, steps - warmup - 1)
    return options.learning_rate * (1.0 + done * (options.final_share - 1.0))


def _pad(sequences: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    """`[B, T]`, padded on the right with token 0, which no row ever points to."""
    longest = max(len(s) for s in sequences)
    padded = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = torch.from_numpy(sequence)
    return padded
