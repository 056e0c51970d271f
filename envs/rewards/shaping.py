"""Potential-based shaping: hints that cannot change what is best.

Ng, Harada and Russell 1999: a bonus of `gamma * potential(after) - potential(before)` leaves every
optimal policy optimal, if the potential after the last step is zero. Over an episode it adds up to
minus the first potential (for `gamma` 1), whatever the policy does in between.
"""

from __future__ import annotations

from ..errors import ConfigError, RewardError
from .base import Fixture, Reward, Sample, Score, checked_range


class Shaping(Reward):
    """The discounted gain in potential of a step.

    Reads `info["potential_before"]`, `info["potential_after"]` (each within `potentials`) and
    `info["is_last"]`, which makes the potential after the step zero.

    Args:
        potentials: Lowest and highest potential; zero must lie between them.
        gamma: The discount that learning uses, in (0, 1].

    Raises:
        ConfigError: The potentials or the discount are none.
    """

    name = "shaping"

    def __init__(self, potentials: tuple[float, float] = (0.0, 1.0), *, gamma: float = 1.0) -> None:
        low, high = checked_range("potentials", potentials)
        if not low <= 0 <= high:
            raise ConfigError(f"the potential of the end, 0, must lie in {potentials!r}")
        if not 0 < gamma <= 1:
            raise ConfigError(f"gamma must be above 0 and at most 1, got {gamma!r}")
        self._potentials, self._gamma = (low, high), gamma
        self.range = (gamma * low - high, gamma * high - low)

    def score(self, sample: Sample) -> Score:
        """`gamma * after - before`."""
        after = 0.0 if sample.info.get("is_last") else self._potential(sample, "potential_after")
        return self._gamma * after - self._potential(sample, "potential_before")

    def fixtures(self) -> list[Fixture]:
        """From the lowest to the highest potential, back, and standing still at the end."""
        low, high = self._potentials
        return [
            Fixture.of("full", _moved(low, high), self.range[1]),
            Fixture.of("zero", _moved(high, low), self.range[0]),
            Fixture.of("malformed", _moved(0.0, high, is_last=True), 0.0),
        ]

    def _potential(self, sample: Sample, key: str) -> float:
        value = sample.info.get(key)
        low, high = self._potentials
        if not isinstance(value, (int, float)) or not low <= value <= high:
            raise RewardError(
                f'{self.name}: info["{key}"] must be in [{low:g}, {high:g}], got {value!r}'
            )
        return float(value)


def _moved(before: float, after: float, *, is_last: bool = False) -> Sample:
    known = {"potential_before": before, "potential_after": after, "is_last": is_last}
    return Sample("go", info=known)
