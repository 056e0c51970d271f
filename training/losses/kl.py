"""Estimates of KL(policy || reference) from the policy's own samples (Schulman 2020).

With d = log pi - log pi_ref of a sampled token, in nats:

    k1 = d                   unbiased, of either sign
    k2 = d^2 / 2             biased, never negative; on samples of pi its gradient is the KL's
    k3 = exp(-d) - 1 + d     unbiased, never negative; its gradient alone is not the KL's

Weighted by the ratio pi / pi_old the expectations of k1 and k3 over samples of the old policy are
the KL itself as a function of pi, gradient included. k2 has that gradient already: its weight only
makes up for the sampler, and is held fixed.
"""

from __future__ import annotations

from typing import Literal

import torch

from .rows import Rows, clamp_log

KlName = Literal["k1", "k2", "k3"]


def kl_estimate(
    logprobs: torch.Tensor, ref_logprobs: torch.Tensor, estimator: KlName
) -> torch.Tensor:
    """The estimate of each row `[M]`, in nats."""
    difference = clamp_log(logprobs - ref_logprobs)
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2.0
    return (-difference).exp() - 1.0 + difference


def kl_loss(
    rows: Rows, ref_logprobs: torch.Tensor, estimator: KlName, is_weighted: bool
) -> torch.Tensor:
    """What each row adds to the loss `[M]`, in nats."""
    price = kl_estimate(rows.logprobs, ref_logprobs, estimator)
    if not is_weighted:
        return price
    ratio = rows.log_ratio().exp()
    return price * (ratio.detach() if estimator == "k2" else ratio)


def kl_of_update(log_ratio: torch.Tensor) -> torch.Tensor:
    """k3 of KL(old || new) from samples of the old policy `[M]`: r - 1 - log r, a metric."""
    return log_ratio.exp() - 1.0 - log_ratio
