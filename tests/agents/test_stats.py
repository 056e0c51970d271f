"""Intervals: known values, and the coverage that they promise."""

from __future__ import annotations

import math
import random

import pytest

from turnhalle.agents.stats import paired_difference, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    estimate = wilson(successes, trials)
    assert estimate.value == successes / trials
    assert estimate.low == pytest.approx(low, abs=5e-5)
    assert estimate.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize("trials", range(1, 60))
def test_the_interval_holds_the_rate_even_at_the_ends(trials: int) -> None:
    for successes in (0, trials // 2, trials):
        estimate = wilson(successes, trials)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_wilson_covers_as_often_as_it_says() -> None:
    """By enumeration: the mean coverage over many rates is 95 %."""
    n = 40
    coverages = []
    for rate in (i / 50 for i in range(5, 46)):
        inside = [k for k in range(n + 1) if wilson(k, n).low <= rate <= wilson(k, n).high]
        coverages.append(sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in inside))
    assert sum(coverages) / len(coverages) == pytest.approx(0.95, abs=0.01)


def test_the_paired_interval_covers_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(2000):
        before, after = [], []
        for _ in range(60):
            difficulty = rng.random()  # the same task is hard for both
            before.append(rng.random() < difficulty)
            after.append(rng.random() < min(1.0, difficulty + 0.2))
        truth = 0.2 - 0.2**2 / 2  # E[min(1, d + .2)] - E[d]
        estimate = paired_difference(before, after)
        covered += estimate.low <= truth <= estimate.high
    assert 0.93 <= covered / 2000 <= 0.985


def test_pairing_narrows_the_interval() -> None:
    before = [True] * 30 + [False] * 30
    together = paired_difference(before, before)
    apart = paired_difference(before, before[::-1])
    assert together.high - together.low < apart.high - apart.low
    assert together.value == apart.value == 0.0


def test_differences_are_after_minus_before() -> None:
    estimate = paired_difference([False] * 10, [True] * 10)
    assert estimate.value == 1.0
    assert 0 < estimate.low < estimate.high == 1.0
    assert estimate.points().startswith("+100 points [+")
    assert wilson(8, 10).percent() == "80 % [49, 94]"


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="got 0 of 0"):
        wilson(0, 0)
    with pytest.raises(ValueError, match="equally long"):
        paired_difference([True], [])
