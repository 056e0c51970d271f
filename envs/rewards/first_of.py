"""Hybrid rewards: a rule first, a model where the rule is silent."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from .base import Fixture, Reward, Sample, Score


class FirstOf(Reward):
    """The score of the first of several rewards that is not silent.

    Args:
        rewards: Asked in this order; later ones see only the samples that are still open.
        name: Name of the part.

    Raises:
        ConfigError: Fewer than two rewards.
    """

    def __init__(self, *rewards: Reward, name: str) -> None:
        if len(rewards) < 2:
            raise ConfigError(f"{name}: FirstOf takes two or more rewards, got {len(rewards)}")
        self.name, self._rewards = name, rewards
        self.range = (min(r.range[0] for r in rewards), max(r.range[1] for r in rewards))

    def score(self, sample: Sample) -> Score:
        """The first that speaks."""
        return self.score_batch([sample])[0]

    def score_batch(self, samples: Sequence[Sample]) -> list[Score]:
        """Each reward gets, at once, all samples that those before it left open."""
        scores: list[Score] = [None] * len(samples)
        for reward in self._rewards:
            still_open = [i for i, score in enumerate(scores) if score is None]
            found = reward.batch([samples[i] for i in still_open]) if still_open else []
            for i, score in zip(still_open, found, strict=True):
                scores[i] = score
        return scores

    def fixtures(self) -> list[Fixture]:
        """Those of the first reward, where it is not silent."""
        return [f for f in self._rewards[0].fixtures() if f.low is not None]
