"""Credit by what came after a turn, compared with the group's others at the same turn."""

from __future__ import annotations

import numpy as np

from .episodes import Episodes, Floats
from .options import CreditOptions
from .outcome import against_others


def reward_to_go(episodes: Episodes, options: CreditOptions) -> Floats:
    """Discounted return from the turn on, minus that of the others that reached the turn: `[E, K]`.

    A_t = R_t - mean of R_t over the other episodes of the group that have a turn t.

    The others are independent of the turn's action, so the baseline adds no bias where one exists.
    Where no other episode reached the turn there is none, and the turn gets no credit: the expected
    gradient of turn t is the true one times the chance that another episode reached it. Where all
    episodes have the same length that is 1; where the policy decides when to stop, turns that are
    rarely reached count for less than they should.
    """
    to_go, is_turn = episodes.returns_to_go(options.gamma), episodes.is_turn
    worth = np.zeros_like(to_go)
    for members in episodes.members():
        for turn in range(to_go.shape[1]):
            alive = members[is_turn[members, turn]]
            worth[alive, turn] = against_others(to_go[alive, turn])
    return worth
