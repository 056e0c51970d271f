"""Policy losses: functions of the loss rows and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before `exp`, so that one stale token cannot overflow."""


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """A loss a row, and what to watch."""

    loss: torch.Tensor
    """`[M]`; the caller divides by the number of rows of the whole update."""
    kl: torch.Tensor
    """`[M]` k3 estimate of KL(old || new) in nats, without gradient."""
    is_clipped: torch.Tensor
    """`[M]` rows whose gradient the clip cut off."""


def clipped(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> PolicyLoss:
    """The clipped surrogate of PPO (arXiv 1707.06347, equation 7), a token a row.

    Args:
        logprobs: `[M]` of the policy being trained.
        old_logprobs: `[M]` of the policy that sampled; no gradient.
        advantages: `[M]`.
        clip_low: The ratio is held above 1 - clip_low where the advantage is negative.
        clip_high: The ratio is held below 1 + clip_high where it is positive.
    """
    log_ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    plain, held = ratio * advantages, bounded * advantages
    with torch.no_grad():
        # k3 with samples from the old policy: r - 1 - log r (Schulman 2020), never negative.
        kl = ratio - 1.0 - log_ratio
        is_clipped = held < plain
    return PolicyLoss(-torch.minimum(plain, held), kl, is_clipped)
