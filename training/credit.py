"""Credit: what each turn of each trajectory of a group is worth. Pure functions, arrays out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from turnhalle.agents.core import Group

Advantages = list[NDArray[np.float64]]
"""For each trajectory of a group `[turns]`."""

_EPSILON = 1e-4
"""Keeps the z-score finite; the value that TRL uses, so that numbers can be compared."""


def grpo(group: Group) -> Advantages | None:
    """Z-score of the return within the group, the same for every turn (arXiv 2402.03300, 4.1.2).

    Masked trajectories neither get credit nor count in the mean.

    Returns:
        Advantages, or None where all returns are equal and the group teaches nothing.
    """
    returns = [t.episode_return for t in group.trajectories if not t.is_masked]
    if len(returns) < 2 or max(returns) == min(returns):
        return None
    mean, std = float(np.mean(returns)), float(np.std(returns, ddof=1))
    return [
        np.full(len(t.turns), 0.0 if t.is_masked else (t.episode_return - mean) / (std + _EPSILON))
        for t in group.trajectories
    ]


CREDIT: dict[str, Callable[[Group], Advantages | None]] = {"grpo": grpo}
"""Estimators by name."""
