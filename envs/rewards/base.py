"""What a reward is: a callable on one `Sample` that says a number in its range, or nothing.

None means silence: the reward has nothing to say about this sample. A rubric leaves a silent part
out, and `FirstOf` asks the next one. Silence is never zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigError, RewardError


@dataclass(frozen=True, slots=True)
class Sample:
    """What a reward judges: one action, and what is known about it."""

    action: str
    prompt: str = ""
    """What the action answers: the observation, or the task."""
    gold: str | None = None
    """The right answer, where there is one."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What else the environment knows; each reward says which keys it reads."""


Score = float | None
FixtureKind = Literal["full", "zero", "malformed"]


@dataclass(frozen=True, slots=True)
class Fixture:
    """A sample whose score is known: proof that a reward does what it says."""

    kind: FixtureKind
    """`full` earns the top of the range, `zero` is wrong, `malformed` cannot even be read."""
    sample: Sample
    low: Score
    """The least that the sample may earn; None where the reward is to be silent."""
    high: Score

    @classmethod
    def of(cls, kind: FixtureKind, sample: Sample, score: Score) -> Fixture:
        """A fixture with exactly one score."""
        return cls(kind, sample, score, score)


class Reward:
    """Base of rewards: subclasses set `name` and `range`, and write `score` and `fixtures`."""

    name: str = ""
    """Key of the reward's part; `Rubric` and metrics show it."""
    range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest score."""

    def score(self, sample: Sample) -> Score:
        """Judge a sample: a number in `range`, or None for silence."""
        raise NotImplementedError(f"{type(self).__name__} must define score(self, sample)")

    def score_batch(self, samples: Sequence[Sample]) -> list[Score]:
        """Judge many samples; models override it to do so at once."""
        return [self.score(sample) for sample in samples]

    def fixtures(self) -> list[Fixture]:
        """Samples with known scores: at least one each of full, zero and malformed."""
        raise NotImplementedError(f"{type(self).__name__} must define fixtures(self)")

    def __call__(self, sample: Sample) -> Score:
        """The score, checked.

        Raises:
            RewardError: The score is not a finite number in `range`.
        """
        return self.batch([sample])[0]

    def batch(self, samples: Sequence[Sample]) -> list[Score]:
        """The scores of many samples, checked.

        Raises:
            RewardError: A score is not a finite number in `range`.
        """
        scores = self.score_batch(samples)
        if len(scores) != len(samples):
            raise RewardError(f"{self.name}: {len(samples)} samples got {len(scores)} scores")
        return [None if score is None else self._checked(score) for score in scores]

    def _checked(self, score: float) -> float:
        low, high = self.range
        is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
        if not is_number or not low - 1e-9 <= score <= high + 1e-9:
            raise RewardError(
                f"reward {self.name!r} said {score!r}; it declares numbers from {low:g} to {high:g}"
            )
        return float(score)


class FunctionReward(Reward):
    """A reward made of a function; `reward` makes one."""

    def __init__(
        self,
        function: Callable[[Sample], Score],
        range: tuple[float, float],
        fixtures: Iterable[Fixture],
    ) -> None:
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.range = checked_range(self.name, range)
        self._function, self._fixtures = function, list(fixtures)

    def score(self, sample: Sample) -> Score:
        """What the function says."""
        return self._function(sample)

    def fixtures(self) -> list[Fixture]:
        """Those it was made with."""
        return self._fixtures


def reward(
    *, full: Sample, zero: Sample, malformed: Sample, range: tuple[float, float] = (0.0, 1.0)
) -> Callable[[Callable[[Sample], Score]], FunctionReward]:
    """Make a reward of a function, named like it; the samples prove that it works.

    Args:
        full: Earns the top of the range.
        zero: Earns its bottom.
        malformed: What a broken policy might say; earns the bottom too.
        range: Lowest and highest score.

    Raises:
        ConfigError: The range is none.
    """
    low, high = checked_range("reward", range)
    fixtures = [
        Fixture.of("full", full, high),
        Fixture.of("zero", zero, low),
        Fixture.of("malformed", malformed, low),
    ]
    return lambda function: FunctionReward(function, range, fixtures)


def checked_range(name: str, range: tuple[float, float]) -> tuple[float, float]:
    """A range whose ends are finite and in order.

    Raises:
        ConfigError: It is none.
    """
    low, high = range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{name}: a range is two finite numbers, the lower first; got {range!r}")
    return float(low), float(high)


def positive(name: str, value: float) -> float:
    """A finite number above zero.

    Raises:
        ConfigError: It is none.
    """
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{name} must be a finite number above 0, got {value!r}")
    return float(value)
