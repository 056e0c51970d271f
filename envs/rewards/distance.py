"""Nearer is better, but only the right number is right."""

from __future__ import annotations

from fractions import Fraction

from ..errors import ConfigError, RewardError
from ..math.answers import extract
from ..math.grading import RULES, read_number
from .base import Fixture, Reward, Sample, Score, positive


class NumericDistance(Reward):
    """1 for the gold number; otherwise from `ceiling` down to 0 at a distance of `scale`.

    The answer is found and read as in the math tasks (`#### 42`, `1,319`, `3/4`), and compared
    exactly, as a fraction. `scale` is absolute; None takes the gold's own size, and at least 1.
    Silent without a gold.
    """

    name = "numeric_distance"

    def __init__(self, *, scale: float | None = None, ceiling: float = 0.5) -> None:
        if not 0 <= ceiling < 1:
            raise ConfigError(
                f"ceiling must be from 0 to below 1, what the right answer earns; got {ceiling!r}"
            )
        self._scale = None if scale is None else Fraction(positive("scale", scale))
        self._ceiling = ceiling

    def score(self, sample: Sample) -> Score:
        """From 0 to `ceiling`, or 1.

        Raises:
            RewardError: The gold answer is no number.
        """
        if sample.gold is None:
            return None
        gold, said = _number(sample.gold), _number(extract(sample.action))
        if gold is None:
            raise RewardError(f"{self.name} needs a number as gold, got {sample.gold!r}")
        if said is None:
            return 0.0
        if said == gold:
            return 1.0
        scale = max(abs(gold), Fraction(1)) if self._scale is None else self._scale
        return self._ceiling * float(max(Fraction(0), 1 - abs(said - gold) / scale))

    def fixtures(self) -> list[Fixture]:
        """Right, a digit dropped off the scale, and no number."""
        return [
            Fixture.of("full", Sample("-4.0", gold="-4"), 1.0),
            Fixture.of("full", Sample("2 * -2 is\n#### -4", gold="-4"), 1.0),
            Fixture.of("zero", Sample("-40000000", gold="-4"), 0.0),
            Fixture("zero", Sample("-4.1", gold="-4"), 0.0, self._ceiling),
            Fixture.of("malformed", Sample("about -4", gold="-4"), 0.0),
            Fixture.of("malformed", Sample("9" * 5000, gold="-4"), 0.0),
        ]


def _number(text: str) -> Fraction | None:
    return read_number(text.strip(), RULES["number"])
