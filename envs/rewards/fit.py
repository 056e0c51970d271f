"""Fitting a kernel reward: the training, and an honest look at pairs it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, unknown_name
from .features import Embeddings, Features, Matrix, TfIdf
from .kernel import KernelModel, Posterior, Vector
from .pairs import Pair, fold_of, hold_out

MIN_PAIRS, MAX_PAIRS = 30, 2000
"""Fewer pairs teach nothing; more make the cubic cost of a Gaussian process too high."""
_MIN_HELD_OUT = 5
_BINS = 5
_FOLDS = 3
_STRENGTHS = (0.3, 1.0, 4.0, 16.0)
"""How freely the weights may move: their prior variance, or one over the ridge."""
_MISSING = "fitting needs scikit-learn: pip install 'turnhalle[rewards]'"
_TEMPERATURES = np.geomspace(0.1, 10, 41)
Solve = Callable[[Matrix, float, float], Posterior]
"""Fits a posterior to differences `[N, F]`, given a strength and a temperature."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How a model does on pairs whose prompts it has not seen."""

    pairs: int
    right: int
    """Pairs in which it prefers what people preferred."""
    confidence: float
    """Mean probability that it gives to its own choice; calibrated means equal to accuracy."""
    calibration_error: float
    """Mean gap between confidence and accuracy over five bins of confidence, weighted by size."""
    brier: float
    """Mean square of (1 - probability of what people preferred); 0.25 is a coin."""


def fit_kernel(
    pairs: Sequence[Pair], embeddings: Path | None = None, kind: str = "gaussian_process"
) -> tuple[KernelModel, HeldOut]:
    """Fit a preference model on four fifths of the prompts, and measure it on the rest.

    Args:
        pairs: 30 to 2,000 judgements.
        embeddings: A transformers folder to embed texts with; None is TF-IDF.
        kind: `gaussian_process`, which knows how uncertain it is, or `kernel_ridge`.

    Raises:
        DataError: Too few or too many pairs, or too few prompts to hold some out.
        UnknownNameError: No such kind.
        ConfigError: scikit-learn is missing.
    """
    if kind not in KINDS:
        raise unknown_name("kind of reward model", kind, KINDS)
    if not MIN_PAIRS <= len(pairs) <= MAX_PAIRS:
        raise DataError(
            f"a kernel reward takes {MIN_PAIRS} to {MAX_PAIRS} pairs, got {len(pairs)}"
            + ("; train a sequence classifier instead" if len(pairs) > MAX_PAIRS else "")
        )
    train, held_out = hold_out(list(pairs))
    if len(held_out) < _MIN_HELD_OUT or len(train) < MIN_PAIRS // 2:
        raise DataError(
            f"{len(train)} pairs are left to train and {len(held_out)} to measure, because pairs "
            "of one prompt stay together; give pairs with more different prompts"
        )
    model = _fit(train, embeddings, KINDS[kind])
    measured = _measure(model, held_out)
    model.card.update(kind=kind, training_pairs=len(train), held_out=asdict(measured))
    return model, measured


def _fit(pairs: Sequence[Pair], embeddings: Path | None, solve: Solve) -> KernelModel:
    chosen = [(pair.prompt, pair.chosen) for pair in pairs]
    rejected = [(pair.prompt, pair.rejected) for pair in pairs]
    features: Features = (
        TfIdf.fit(chosen + rejected) if embeddings is None else Embeddings(embeddings)
    )
    x_chosen, x_rejected = features(chosen), features(rejected)
    differences = x_chosen - x_rejected
    folds = np.array([fold_of(pair.prompt, _FOLDS) for pair in pairs])
    strength, temperature = _choose(differences, folds, solve)
    posterior = solve(differences, strength, temperature)
    best = int(np.argmax(x_chosen @ posterior.weights))
    worst = int(np.argmin(x_rejected @ posterior.weights))
    card: dict[str, Any] = {
        "good": {"prompt": pairs[best].prompt, "answer": pairs[best].chosen},
        "bad": {"prompt": pairs[worst].prompt, "answer": pairs[worst].rejected},
    }
    baseline = np.asarray((x_chosen.mean(0) + x_rejected.mean(0)) / 2)
    return KernelModel(features, posterior, baseline, card)


def _choose(differences: Matrix, folds: Any, solve: Solve) -> tuple[float, float]:
    """Strength and temperature with the least log-loss on folds that were left out.

    By cross-validation and not by marginal likelihood: Laplace's approximation of it was far too
    unsure (accuracy 100 %, confidence 75 %) on pairs without noise.
    """
    best = (np.inf, 1.0, 1.0)
    for strength in _STRENGTHS:
        logits = np.zeros(len(differences))
        for fold in range(_FOLDS):
            left_out = folds == fold
            if left_out.any() and not left_out.all():
                posterior = solve(differences[~left_out], strength, 1.0)
                logits[left_out] = posterior.logit(differences[left_out])
        for temperature in _TEMPERATURES:
            loss = float(np.logaddexp(0.0, -logits / temperature).mean())
            best = min(best, (loss, strength, float(temperature)))
    return best[1], best[2]


def gaussian_process(differences: Matrix, variance: float, temperature: float) -> Posterior:
    """scikit-learn's Laplace approximation of the classifier "is the first one preferred?".

    Raises:
        ConfigError: scikit-learn is missing.
    """
    try:
        from sklearn.gaussian_process import GaussianProcessClassifier
        from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise ConfigError(_MISSING) from error
    # An offset would favour the first text; exactly 0 has no logarithm, which scikit-learn takes.
    linear = DotProduct(sigma_0=1e-9)
    # A classifier wants two classes: every other difference is taken the other way round.
    sign = np.where(np.arange(len(differences)) % 2 == 0, 1.0, -1.0)
    kernel = ConstantKernel(variance) * linear
    process = GaussianProcessClassifier(kernel=kernel, optimizer=None)
    with threadpool_limits(1):  # the matrices are small: more threads cost ten times the CPU time
        done = process.fit(differences * sign[:, None], sign > 0).base_estimator_
    weights = variance * done.X_train_.T @ (done.y_train_ - done.pi_)
    shrink = np.linalg.solve(done.L_, done.W_sr_[:, None] * variance * done.X_train_)
    return Posterior(variance, weights, shrink, temperature)


def kernel_ridge(differences: Matrix, strength: float, temperature: float) -> Posterior:
    """scikit-learn's kernel ridge regression of "the first one is preferred", 1, on differences.

    No offset, so that swapping two answers swaps the sign. Of its own uncertainty it knows nothing.

    Raises:
        ConfigError: scikit-learn is missing.
    """
    try:
        from sklearn.kernel_ridge import KernelRidge
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise ConfigError(_MISSING) from error
    with threadpool_limits(1):
        ridge = KernelRidge(alpha=1 / strength).fit(differences, np.ones(len(differences)))
        weights = differences.T @ ridge.dual_coef_
    return Posterior(0.0, weights, np.zeros((0, len(weights))), temperature)


KINDS: dict[str, Solve] = {"gaussian_process": gaussian_process, "kernel_ridge": kernel_ridge}
"""The models that can be fitted, by name."""


def _measure(model: KernelModel, pairs: Sequence[Pair]) -> HeldOut:
    chosen = model.features([(pair.prompt, pair.chosen) for pair in pairs])
    rejected = model.features([(pair.prompt, pair.rejected) for pair in pairs])
    probability, _ = model.posterior.prefer(chosen - rejected)
    is_right = probability > 0.5
    confidence = np.maximum(probability, 1 - probability)
    return HeldOut(
        pairs=len(pairs),
        right=int(is_right.sum()),
        confidence=float(confidence.mean()),
        calibration_error=_calibration_error(confidence, is_right),
        brier=float(np.square(1 - probability).mean()),
    )


def _calibration_error(confidence: Vector, is_right: Any) -> float:
    bins = np.minimum(((confidence - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    gaps = [
        (bins == b).mean() * abs(confidence[bins == b].mean() - is_right[bins == b].mean())
        for b in range(_BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))
