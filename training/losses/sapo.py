"""SAPO: a sigmoid gate instead of a clip (arXiv 2511.20347)."""

from __future__ import annotations

import torch

from .rows import PolicyLoss, Rows

_HALF = 0.5
"""A gate below half of its open value counts as clipped."""


def sapo(rows: Rows, temperature_positive: float, temperature_negative: float) -> PolicyLoss:
    """-(4 / t) sigmoid(t (r - 1)) A (equations 5 and 6).

    The gradient's gate is 4 p (1 - p) with p the sigmoid: 1 at r = 1, falling smoothly on both
    sides.

    Args:
        rows: `[M]`.
        temperature_positive: t where the advantage is positive.
        temperature_negative: t elsewhere; higher ones close sooner.
    """
    ratio = rows.log_ratio().exp()
    is_good = rows.advantages > 0
    temperature = torch.full_like(ratio, temperature_negative)
    temperature = temperature.masked_fill(is_good, temperature_positive)
    open_share = torch.sigmoid(temperature * (ratio - 1.0))
    gate = 4.0 * open_share * (1.0 - open_share)
    return PolicyLoss(-open_share * 4.0 / temperature * rows.advantages, gate.detach() < _HALF)
