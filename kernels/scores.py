"""What the log-prob op takes and gives, and how its sums become log-probs."""

from __future__ import annotations

from typing import NamedTuple

import torch

MAX_EXPONENT = {torch.float16: 10.0}
"""Largest d kept as it is, 80 unless named: exp(80) fits bf16 and float32, float16 fits exp(11).
A row with a larger d is done again, measured from its largest logit."""


class FrozenHead(NamedTuple):
    """The numbers of a head; `scale` is one over the temperature."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    softcap: float | None
    scale: float


class Scores(NamedTuple):
    """What one pass gives for `[n]` rows; `gradient` `[n, H]` is dlogp/dh, or None."""

    logprobs: torch.Tensor
    entropies: torch.Tensor
    gradient: torch.Tensor | None


def finish(
    total: torch.Tensor, dot: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-prob, entropy, and the sum over all words, from sums over all words but the target.

    `shift` is what was subtracted from each d: 0, where log1p keeps what is left of p -> 1.
    """
    everything = total + torch.exp(-shift)
    negative = torch.where(shift == 0, torch.log1p(total), shift + everything.log())
    return -negative, negative - dot / everything, everything


def offset(largest: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What to subtract from a row's d, `[n]`, so that exp(d) fits the dtype: mostly 0."""
    return torch.where(largest > MAX_EXPONENT.get(dtype, 80.0), largest, 0.0)
