"""GiGPO: groups within a group, by states that several turns started from (arXiv 2505.10978)."""

from __future__ import annotations

import numpy as np

from .episodes import Episodes, Floats
from .options import CreditOptions
from .outcome import by_group, centred, z_scores


def gigpo(episodes: Episodes, options: CreditOptions) -> Floats:
    """The episode's advantage plus `turn_weight` times the turn's among equal anchors: `[E, K]`.

    A = A_episode + w A_turn (equation 8); A_turn compares the discounted returns (equation 6) of
    all turns of the group that saw the same observation, whichever episode and turn they are of
    (equation 7). A turn whose observation nobody else saw has A_turn = 0.

    Equal observations need not be equal states where the environment hides something; then the turn
    part compares what cannot be compared.
    """
    compare = z_scores if options.is_scaled else centred
    to_go, is_turn = episodes.returns_to_go(options.gamma), episodes.is_turn
    of_turn = np.zeros_like(to_go)
    for members in episodes.members():
        rows, turns = np.nonzero(is_turn[members])
        rows = members[rows]
        anchors = episodes.anchor[rows, turns]
        for anchor in np.unique(anchors):
            same = anchors == anchor
            of_turn[rows[same], turns[same]] = compare(to_go[rows[same], turns[same]])
    return episodes.spread(by_group(episodes, compare)) + options.turn_weight * of_turn
