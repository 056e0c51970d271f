"""Intervals: how much of a success rate, or of a difference, is luck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple


class Estimate(NamedTuple):
    """A value with its confidence interval."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """For people: "81 % [75, 86]"."""
        return f"{100 * self.value:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]"

    def points(self) -> str:
        """For differences: "+50 points [42, 58]"."""
        return f"{100 * self.value:+.0f} points [{100 * self.low:+.0f}, {100 * self.high:+.0f}]"


def wilson(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of a proportion (1927); sound for few trials and for 0 or all."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"need 0 <= successes <= trials >= 1, got {successes} of {trials}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    denominator = 1 + z * z / trials
    center = (rate + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2)) / denominator
    # At 0 and 1 rounding could put the bound on the wrong side of the rate.
    return Estimate(rate, max(0.0, min(rate, center - half)), min(1.0, max(rate, center + half)))


def paired_difference(
    before: Sequence[bool], after: Sequence[bool], confidence: float = 0.95
) -> Estimate:
    """Difference of two success rates on the same tasks, after minus before.

    Newcombe's square-and-add interval for paired proportions (1998, method 10): it takes into
    account that the same task is easy or hard for both.

    Args:
        before: `[n]` success by task.
        after: `[n]` in the same order.
        confidence: Coverage aimed at.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"need two equally long lists, got {len(before)} and {len(after)}")
    n = len(before)
    both = sum(a and b for a, b in zip(after, before, strict=True))
    k_after, k_before = sum(after), sum(before)
    p, low_p, high_p = wilson(k_after, n, confidence)
    q, low_q, high_q = wilson(k_before, n, confidence)
    phi = _phi(both, k_after - both, k_before - both, n - k_after - k_before + both)
    down, up = p - low_p, high_p - p
    down_q, up_q = q - low_q, high_q - q
    difference = p - q
    low = difference - math.sqrt(max(0.0, down**2 - 2 * phi * down * up_q + up_q**2))
    high = difference + math.sqrt(max(0.0, up**2 - 2 * phi * up * down_q + down_q**2))
    return Estimate(difference, max(-1.0, low), min(1.0, high))


def _phi(a: int, b: int, c: int, d: int) -> float:
    """Correlation of a two-by-two table, continuity-corrected where it is positive."""
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    cross = float(a * d - b * c)
    if cross > 0:
        cross = max(cross - (a + b + c + d) / 2, 0.0)
    return cross / math.sqrt(product)
