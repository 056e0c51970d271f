"""Lengths: an action of about the right size, and a penalty on one that is too long."""

from __future__ import annotations

from typing import Literal

from ..errors import ConfigError, RewardError, unknown_name
from .base import Fixture, Reward, Sample, Score

Unit = Literal["words", "characters", "tokens"]
_UNITS = ("words", "characters", "tokens")


class Length(Reward):
    """1 from `low` to `high` units, 0 at none and from twice `high` on, a straight line between."""

    name = "length"

    def __init__(self, low: int, high: int, *, unit: Unit = "words") -> None:
        if not 1 <= low <= high:
            raise ConfigError(f"need 1 <= low <= high, got {low} and {high}")
        self._low, self._high, self._unit = low, high, _checked_unit(unit)

    def score(self, sample: Sample) -> Score:
        """From 0 to 1."""
        size = measure(sample, self._unit)
        if size <= self._high:
            return min(1.0, size / self._low)
        return max(0.0, 2 - size / self._high)

    def fixtures(self) -> list[Fixture]:
        """Right, twice too long, and nothing at all."""
        return [
            Fixture.of("full", _sized(self._low, self._unit), 1.0),
            Fixture.of("full", _sized(self._high, self._unit), 1.0),
            Fixture.of("zero", _sized(2 * self._high, self._unit), 0.0),
            Fixture.of("malformed", _sized(0, self._unit), 0.0),
        ]


class Overlong(Reward):
    """0 up to `limit` units, then down to -1 at `limit + buffer`: a soft end instead of a cliff.

    The soft overlong punishment of DAPO (arXiv 2503.14476, eq. 13).
    """

    name = "overlong"
    range = (-1.0, 0.0)

    def __init__(self, limit: int, buffer: int, *, unit: Unit = "tokens") -> None:
        if limit < 0 or buffer < 1:
            raise ConfigError(f"need limit >= 0 and buffer >= 1, got {limit} and {buffer}")
        self._limit, self._buffer, self._unit = limit, buffer, _checked_unit(unit)

    def score(self, sample: Sample) -> Score:
        """From -1 to 0."""
        over = measure(sample, self._unit) - self._limit
        return -min(1.0, max(0.0, over / self._buffer))

    def fixtures(self) -> list[Fixture]:
        """Just short enough, twice too long, and nothing at all."""
        return [
            Fixture.of("full", _sized(self._limit, self._unit), 0.0),
            Fixture.of("zero", _sized(self._limit + self._buffer, self._unit), -1.0),
            Fixture.of("malformed", _sized(0, self._unit), 0.0),
        ]


def measure(sample: Sample, unit: Unit) -> int:
    """How long the action is; tokens are read from `info["num_tokens"]`.

    Raises:
        RewardError: Tokens are asked for and were not counted.
    """
    if unit == "words":
        return len(sample.action.split())
    if unit == "characters":
        return len(sample.action)
    count = sample.info.get("num_tokens")
    if not isinstance(count, int) or count < 0:
        raise RewardError(f'a length in tokens needs info["num_tokens"], got {count!r}')
    return count


def _checked_unit(unit: Unit) -> Unit:
    if unit not in _UNITS:
        raise unknown_name("unit", unit, _UNITS)
    return unit


def _sized(size: int, unit: Unit) -> Sample:
    text = "a" * size if unit == "characters" else "word " * size
    return Sample(text, info={"num_tokens": size})
