"""From the episodes of a step to an advantage a turn, by any estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .episodes import Episodes, Floats
from .gae import gae, ppo
from .gigpo import gigpo
from .options import CreditOptions, EstimatorName
from .outcome import dr_grpo, grpo, reinforce, reinforce_pp, rloo
from .to_go import reward_to_go
from .tree import tree


@dataclass(frozen=True, slots=True)
class Credit:
    """What the turns of a step are worth."""

    worth: Floats
    """`[E, K]` advantages, 0 behind the end and in masked episodes."""
    teaches: NDArray[np.bool_]
    """`[E]` False where nothing can be learned of the episode's group: all its advantages are
    exactly 0, and no critic has a target in it."""
    num_groups: int
    num_teaching: int
    """Groups that something can be learned of."""
    value_targets: Floats | None = None
    """`[E, K]` what a critic should say before the turn, NaN where nothing is known."""


ESTIMATORS: dict[EstimatorName, Callable[[Episodes, CreditOptions], Floats]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
    "reinforce": reinforce,
    "reinforce_pp": reinforce_pp,
    "reward_to_go": reward_to_go,
    "gigpo": gigpo,
    "tree": tree,
    "ppo": ppo,
}


def assign_credit(episodes: Episodes, options: CreditOptions) -> Credit:
    """An advantage for every turn of a step, by the estimator that the options name."""
    worth = ESTIMATORS[options.estimator](episodes, options)
    moves = np.any(worth != 0.0, axis=1)
    targets = None
    if options.needs_values:
        _, targets = gae(episodes, options.gamma, options.gae_lambda)
        moves |= np.any(~np.isnan(targets), axis=1)
    teaching = np.unique(episodes.group[moves])
    return Credit(
        worth=worth,
        teaches=np.isin(episodes.group, teaching),
        num_groups=len(np.unique(episodes.group)),
        num_teaching=len(teaching),
        value_targets=targets,
    )
