"""The rows that every loss is a function of, and what a loss returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before `exp`, so that one stale token cannot overflow."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Sampled tokens; the rows of a sequence are all in one `Rows`."""

    logprobs: torch.Tensor
    """`[M]` of the policy that is trained; the only column with a gradient."""
    old_logprobs: torch.Tensor
    """`[M]` of the policy before the update."""
    advantages: torch.Tensor
    """`[M]`"""
    sequence: torch.Tensor
    """`[M]` int64 number of the sequence of tokens that the row is in."""
    turn: torch.Tensor
    """`[M]` int64 number of the turn; no two sequences share one."""

    def log_ratio(self) -> torch.Tensor:
        """`[M]` log pi / pi_old of each token, clamped."""
        return clamp_log(self.logprobs - self.old_logprobs)


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """A loss a row, and what to watch."""

    loss: torch.Tensor
    """`[M]`, not yet divided by anything."""
    is_clipped: torch.Tensor
    """`[M]` rows that the loss holds back: their gradient is cut off, or its weight is capped."""


def clamp_log(log_ratio: torch.Tensor) -> torch.Tensor:
    """Bound a log-ratio, so that its `exp` is finite."""
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sum_by(values: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """`[M]` for each row the sum of `values` over the rows with its segment number."""
    _, number = torch.unique(segment, return_inverse=True)
    sums = values.new_zeros(int(number.max()) + 1 if len(number) else 0)
    return sums.index_add(0, number, values)[number]


def mean_by(values: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """`[M]` for each row the mean of `values` over the rows with its segment number."""
    return sum_by(values, segment) / sum_by(torch.ones_like(values), segment)
