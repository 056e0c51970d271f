"""What a turn, a minute or a euro costs."""

from __future__ import annotations

import math

from ..errors import RewardError
from .base import Fixture, Reward, Sample, Score, positive


class Cost(Reward):
    """Minus `price` for each unit that a step used, and at worst `-most` a step.

    Args:
        price: What one unit costs.
        most: The most that one step can cost.
        unit: Key of `info` with the number used: "minutes", "tokens", ...; absent is one, so that
            by default each turn costs the same.
        name: Name of the part.

    Raises:
        ConfigError: `price` or `most` is not a finite number above zero.
    """

    name = "cost"

    def __init__(
        self, price: float, *, most: float = 1.0, unit: str = "turns", name: str = "cost"
    ) -> None:
        self._price, self._most = positive("price", price), positive("most", most)
        self._unit, self.name = unit, name
        self.range = (-self._most, 0.0)

    def score(self, sample: Sample) -> Score:
        """From `-most` to 0.

        Raises:
            RewardError: What was used is no amount.
        """
        used = sample.info.get(self._unit, 1)
        if not isinstance(used, (int, float)) or not math.isfinite(used) or used < 0:
            raise RewardError(f'{self.name}: info["{self._unit}"] is {used!r}, no amount')
        return -min(self._most, self._price * float(used))

    def fixtures(self) -> list[Fixture]:
        """Nothing used, far too much, and no record."""
        once = -min(self._most, self._price)
        return [
            Fixture.of("full", Sample("a", info={self._unit: 0}), 0.0),
            Fixture.of("zero", Sample("a", info={self._unit: 1e9}), -self._most),
            Fixture.of("malformed", Sample(""), once),
        ]
