"""Credit by the whole episode: every turn is worth what its episode's return is worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .episodes import Episodes, Floats
from .options import CreditOptions

EPSILON = 1e-4
"""Keeps z-scores finite; the value that TRL uses, so that numbers can be compared."""


def grpo(episodes: Episodes, options: CreditOptions) -> Floats:
    """Z-score of the return within the group (arXiv 2402.03300, 4.1.2): `[E, K]`."""
    return episodes.spread(by_group(episodes, z_scores))


def dr_grpo(episodes: Episodes, options: CreditOptions) -> Floats:
    """The return minus the group's mean, not divided (arXiv 2503.20783, section 3.2): `[E, K]`.

    Its mean holds the episode itself, so the expected gradient is (G - 1) / G of the true one.
    """
    return episodes.spread(by_group(episodes, centred))


def rloo(episodes: Episodes, options: CreditOptions) -> Floats:
    """The return minus the mean of the group's others (arXiv 2402.14740, equation 7): `[E, K]`."""
    return episodes.spread(by_group(episodes, against_others))


def reinforce(episodes: Episodes, options: CreditOptions) -> Floats:
    """The return minus the mean of all other episodes of the step: `[E, K]`.

    REINFORCE with a baseline (Williams 1992); the baseline does not know the task, so with tasks of
    unequal difficulty its variance is above that of the estimators by group.
    """
    worth = np.zeros(len(episodes.rewards))
    counted = np.flatnonzero(~episodes.is_masked)
    worth[counted] = against_others(episodes.returns[counted])
    return episodes.spread(worth)


def reinforce_pp(episodes: Episodes, options: CreditOptions) -> Floats:
    """Returns to go, normalised over all turns of the step (arXiv 2501.03262, section 3.2)."""
    to_go, is_turn = episodes.returns_to_go(options.gamma), episodes.is_turn
    worth = np.zeros_like(to_go)
    worth[is_turn] = z_scores(to_go[is_turn])
    return worth


def by_group(episodes: Episodes, score: Callable[[Floats], Floats]) -> Floats:
    """The score of each episode's return among those of its group: `[E]`."""
    returns = episodes.returns
    worth = np.zeros_like(returns)
    for members in episodes.members():
        worth[members] = score(returns[members])
    return worth


def z_scores(values: Floats) -> Floats:
    """`(x - mean) / (std + 1e-4)` with std of n - 1; all 0 where the values are equal.

    Equality is exact: the mean of equal numbers is off by a rounding error, and dividing that by
    another one would make noise into credit.
    """
    if is_flat(values):
        return np.zeros(len(values))
    scores: Floats = (values - float(np.mean(values))) / (float(np.std(values, ddof=1)) + EPSILON)
    return scores


def centred(values: Floats) -> Floats:
    """`x - mean`; all 0 where the values are equal."""
    return np.zeros(len(values)) if is_flat(values) else values - float(np.mean(values))


def against_others(values: Floats) -> Floats:
    """`x - mean of the others`; all 0 where the values are equal, or there is one."""
    if is_flat(values):
        return np.zeros(len(values))
    others: Floats = (values.sum() - values) / (len(values) - 1)
    return values - others


def is_flat(values: Floats) -> bool:
    """Is there nothing to compare?"""
    return len(values) < 2 or bool(values.max() == values.min())
