"""`Rubric`: several rewards with weights, and their parts by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..errors import ConfigError, RewardError
from .base import Reward, Sample
from .catalogue import make_reward


class Rubric:
    """Weighs rewards; what it returns is what `Reply(parts=...)` takes.

    Args:
        weights: Weight by reward, or by name of a reward that needs no options. Negative weights
            turn a reward into a penalty.

    Raises:
        ConfigError: No reward, two of one name, or a weight that is zero or not finite.
        UnknownNameError: No reward has the name.
    """

    def __init__(self, weights: Mapping[Reward | str, float]) -> None:
        if not weights:
            raise ConfigError("a rubric needs at least one reward")
        self._weights: dict[str, float] = {}
        self._rewards: dict[str, Reward] = {}
        for given, weight in weights.items():
            reward = make_reward(given) if isinstance(given, str) else given
            if reward.name in self._rewards:
                raise ConfigError(f"two rewards of a rubric are named {reward.name!r}")
            is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if not is_number or not math.isfinite(weight) or weight == 0:
                raise ConfigError(
                    f"the weight of {reward.name!r} must be a finite number other than 0, "
                    f"got {weight!r}"
                )
            self._weights[reward.name], self._rewards[reward.name] = float(weight), reward

    @property
    def rewards(self) -> list[Reward]:
        """What it weighs; `check_reward` audits each."""
        return list(self._rewards.values())

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and highest sum of parts; an environment's `reward_range`, if it pays once."""
        ends = [
            sorted(weight * end for end in self._rewards[name].range)
            for name, weight in self._weights.items()
        ]
        return math.fsum(low for low, _ in ends), math.fsum(high for _, high in ends)

    def __call__(self, sample: Sample) -> dict[str, float]:
        """The weighted parts of one sample; silent rewards have none.

        Raises:
            RewardError: A reward left its range, or all were silent.
        """
        return self.batch([sample])[0]

    def batch(self, samples: Sequence[Sample]) -> list[dict[str, float]]:
        """The weighted parts of many samples, each reward asked once for all of them.

        Raises:
            RewardError: A reward left its range, or all were silent about a sample.
        """
        parts: list[dict[str, float]] = [{} for _ in samples]
        for name, reward in self._rewards.items():
            for part, score in zip(parts, reward.batch(samples), strict=True):
                if score is not None:
                    part[name] = self._weights[name] * score
        for sample, part in zip(samples, parts, strict=True):
            if not part:
                raise RewardError(
                    f"none of {', '.join(self._rewards)} could judge {sample.action[:80]!r}; give "
                    "what they read (gold, info), or add a reward that always speaks"
                )
        return parts
