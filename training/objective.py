"""What an update descends: policy loss, KL price, entropy bonus and critic, of one micro-batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from .batch import Batch
from .losses.correction import CorrectionOptions, correction_metrics, correction_weights
from .losses.entropy import entropy_surrogate
from .losses.kl import kl_estimate, kl_loss, kl_of_update
from .losses.normalise import Normaliser
from .losses.options import KlOptions, LossOptions
from .losses.rows import Rows
from .scoring import Scores
from .value import ValueOptions, value_loss


@dataclass(frozen=True, slots=True)
class Objective:
    """The options of all its terms."""

    loss: LossOptions = field(default_factory=LossOptions)
    kl: KlOptions = field(default_factory=KlOptions)
    correction: CorrectionOptions = field(default_factory=CorrectionOptions)
    value: ValueOptions | None = None
    """None where there is no critic."""

    def normaliser(self, update: Batch) -> Normaliser:
        """What the losses of an update's rows are divided by."""
        return Normaliser(
            self.loss.normaliser,
            update.num_rows,
            len(np.unique(update.episode)),
            self.loss.constant_tokens,
        )

    def of_part(
        self, part: Batch, scores: Scores, update: Batch
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """The part's share of the update's objective, a scalar to descend, and sums over its rows.

        Args:
            part: Whole sequences of the update.
            scores: Of the part.
            update: What one optimizer step learns from.
        """
        device = scores.logprobs.device
        rows = loss_rows(part, scores.logprobs)
        policy = self.loss.policy_loss(rows)
        weight = _tensor(part.weight, device)
        loss = policy.loss * weight
        log_ratio = rows.log_ratio()
        if self.kl.weight:
            ref_logprobs = _tensor(part.ref_logprob, device)
            if self.kl.place == "loss":
                price = kl_loss(rows, ref_logprobs, self.kl.estimator, self.kl.is_weighted)
                loss = loss + self.kl.weight * price * (weight if self.kl.is_weighted else 1.0)
        total = self.normaliser(update).total(loss, episode_rows(part, update, device))
        if self.loss.entropy_bonus:
            bonus = weight * entropy_surrogate(rows, scores.entropies)
            total = total - self.loss.entropy_bonus * bonus.sum() / update.num_rows
        sums = {
            "loss": float(loss.detach().sum()),
            "kl": float(kl_of_update(log_ratio.detach()).sum()),
            "clip_fraction": float(policy.is_clipped.sum()),
            "entropy": float(scores.entropies.sum()),
        }
        if self.kl.weight:
            k3 = kl_estimate(rows.logprobs.detach(), ref_logprobs, "k3")
            sums["ref_kl"] = float(k3.sum())
        if self.value is not None and scores.values is not None:
            targets = _tensor(part.value_target[part.is_first], device)
            error = value_loss(scores.values, targets)
            total = total + self.value.weight * error / max(1, num_targets(update))
        return total, sums


def corrected(batch: Batch, options: CorrectionOptions) -> tuple[Batch, dict[str, float]]:
    """A batch whose rows weigh what makes up for their sampler, and how far it was off.

    Args:
        batch: With the trainer's own log-probs before the update; its weights are the kept mass.
        options: With a level.
    """
    log_ratio = torch.from_numpy(batch.old_logprob - batch.sampler_logprob)
    kept_mass = torch.from_numpy(batch.weight)
    episode, turn = torch.from_numpy(batch.episode[batch.sequence]), torch.from_numpy(batch.turn_id)
    weights = correction_weights(log_ratio + kept_mass.log(), episode, turn, options)
    return replace(batch, weight=weights.numpy()), correction_metrics(log_ratio, weights)


def loss_rows(part: Batch, logprobs: torch.Tensor) -> Rows:
    """The rows of a part, as every loss takes them."""
    device = logprobs.device
    return Rows(
        logprobs=logprobs,
        old_logprobs=_tensor(part.old_logprob, device),
        advantages=_tensor(part.advantage, device),
        sequence=torch.from_numpy(part.sequence).to(device),
        turn=torch.from_numpy(part.turn_id).to(device),
    )


def episode_rows(part: Batch, update: Batch, device: torch.device) -> torch.Tensor:
    """For each row of a part how many rows of the update are of its episode `[M]`."""
    counts = np.bincount(update.episode[update.sequence])
    return torch.from_numpy(counts[part.episode[part.sequence]]).to(device)


def num_targets(batch: Batch) -> int:
    """Number of turns that the critic learns from."""
    return int((~np.isnan(batch.value_target)).sum())


def _tensor(array: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)
