"""A reward learned from preference pairs, for small data: a kernel model over text features.

The utility of a text is a linear function of its features, and the probability that one answer is
preferred to another is a sigmoid of the difference in utility. With a Gaussian prior on the weights
preferences are a Gaussian process on differences of features (Chu and Ghahramani 2005), which knows
how sure it may be of each; kernel ridge regression gives weights alone. What is stored are plain
arrays and JSON; nothing is pickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelError
from .base import Fixture, Reward, Sample, Score
from .features import Features, Matrix, features_from_json

_META, _ARRAYS, _VERSION = "reward.json", "posterior.npz", 1
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What is known of the utility of texts: F features, N training pairs."""

    variance: float
    """Prior variance of the weight of each feature; 0 where only the weights are known."""
    weights: Vector
    """Posterior mean `[F]`."""
    shrink: Matrix
    """`[N, F]`: a difference d has the posterior variance `variance * |d|^2 - |shrink d|^2`."""
    temperature: float
    """Divides the logits, so that confidence is about accuracy; found by cross-validation."""

    @property
    def is_uncertain(self) -> bool:
        """Does it know how uncertain it is? Kernel ridge does not."""
        return self.variance > 0

    def std(self, differences: Matrix) -> Vector:
        """Posterior standard deviation `[N]` of the utility gained; 0 where none is known."""
        prior = self.variance * np.square(differences).sum(1)
        known = np.square(differences @ self.shrink.T).sum(1)
        return np.asarray(np.sqrt(np.maximum(prior - known, 0.0)))

    def logit(self, differences: Matrix) -> Vector:
        """The logit `[N]` of the expected sigmoid, by MacKay's approximation (1992)."""
        spread = 1 + math.pi * np.square(self.std(differences)) / 8
        return np.asarray(differences @ self.weights / np.sqrt(spread) / self.temperature)

    def prefer(self, differences: Matrix) -> tuple[Vector, Vector]:
        """Probability `[N]` that the first text is preferred, and the std of its utility gained.

        Args:
            differences: `[N, F]` features of the first texts minus those of the second.
        """
        return _sigmoid(self.logit(differences)), self.std(differences)


@dataclass(frozen=True, slots=True, eq=False)
class KernelModel:
    """A posterior and the features that it is about."""

    features: Features
    posterior: Posterior
    baseline: Vector
    """Mean features `[F]` of the training answers: the average answer."""
    card: dict[str, Any]
    """Held-out figures, and an answer each that it finds good and bad."""

    def judge(self, texts: Sequence[tuple[str, str]]) -> tuple[Vector, Vector]:
        """For (prompt, answer): probability to be preferred to an average answer, and the std."""
        return self.posterior.prefer(self.features(texts) - self.baseline)

    def save(self, folder: Path) -> None:
        """Write the model into an empty or new folder.

        Raises:
            ModelError: The folder holds something.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ModelError(f"{folder} exists; give a folder that does not")
        folder.mkdir(parents=True, exist_ok=True)
        known = self.posterior
        meta = {
            "version": _VERSION,
            "variance": known.variance,
            "temperature": known.temperature,
            "card": self.card,
            "features": self.features.to_json(),
        }
        (folder / _META).write_text(json.dumps(meta, ensure_ascii=False, indent=1), "utf-8")
        np.savez_compressed(
            folder / _ARRAYS,
            weights=known.weights,
            baseline=self.baseline,
            shrink=known.shrink.astype(np.float32),
        )


@lru_cache(maxsize=8)
def load_kernel(folder: Path) -> KernelModel:
    """Load what `turnhalle reward fit` wrote, once a process.

    Raises:
        ModelError: The folder is none of these, or is damaged.
    """
    try:
        meta = json.loads((folder / _META).read_text("utf-8"))
        if meta["version"] != _VERSION:
            raise ModelError(f"{folder} has version {meta['version']}, this reads {_VERSION}")
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            weights, baseline, shrink = (arrays[k] for k in ("weights", "baseline", "shrink"))
        posterior = Posterior(
            meta["variance"], weights, shrink.astype(np.float64), meta["temperature"]
        )
        features, card = meta["features"], meta["card"]
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"{folder} is no reward of `turnhalle reward fit`: {type(error).__name__}: {error}"
        ) from error
    return KernelModel(features_from_json(features), posterior, baseline, card)


class KernelReward(Reward):
    """How probable it is that people prefer the action to an average answer.

    Args:
        folder: What `turnhalle reward fit` wrote.
        max_std: Silent where the model is less certain than this (posterior standard deviation of
            the utility), so that a `FirstOf` can ask a judge; None always speaks. Only a Gaussian
            process knows it.
        name: Name of the part.

    Raises:
        ConfigError: `max_std` for a model that knows no uncertainty.
    """

    def __init__(
        self, folder: str | Path, *, max_std: float | None = None, name: str = "kernel"
    ) -> None:
        self.name, self._max_std = name, max_std
        self._model = load_kernel(Path(folder).resolve())
        if max_std is not None and not self._model.posterior.is_uncertain:
            raise ConfigError(
                f"{folder} is a kernel ridge, which knows no uncertainty for max_std to limit; "
                "fit it with --kind gaussian_process"
            )

    def score(self, sample: Sample) -> Score:
        """From 0 to 1, or silence."""
        return self.score_batch([sample])[0]

    def score_batch(self, samples: Sequence[Sample]) -> list[Score]:
        """All samples in one product."""
        probability, std = self._model.judge([(s.prompt, s.action) for s in samples])
        limit = math.inf if self._max_std is None else self._max_std
        return [float(p) if s <= limit else None for p, s in zip(probability, std, strict=True)]

    def fixtures(self) -> list[Fixture]:
        """The best and the worst training answer by the model itself, and an empty one."""
        good, bad = self._model.card["good"], self._model.card["bad"]
        fixtures = [
            Fixture("full", Sample(good["answer"], good["prompt"]), 0.5, 1.0),
            Fixture("zero", Sample(bad["answer"], bad["prompt"]), 0.0, 0.5),
            Fixture("malformed", Sample("", bad["prompt"]), 0.0, 1.0),
        ]
        return [
            fixture
            if self.score(fixture.sample) is not None
            # Its own certainty decides where it is silent, not right and wrong.
            else Fixture.of(fixture.kind, fixture.sample, None)
            for fixture in fixtures
        ]


def _sigmoid(x: Vector) -> Vector:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
