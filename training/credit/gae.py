"""PPO's credit: generalised advantage estimation over turns (arXiv 1506.02438, equation 16)."""

from __future__ import annotations

import numpy as np

from .episodes import Episodes, Floats
from .options import CreditOptions
from .outcome import z_scores


def gae(episodes: Episodes, gamma: float, gae_lambda: float) -> tuple[Floats, Floats]:
    """Advantages and what the critic should have said.

    delta_t = r_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lambda A_{t+1}

    An episode that the task ended, its own turn limit included, is worth nothing behind its end.
    One that a compute budget cut would have gone on: what the critic expected at its last turn
    stands for all that follows, and that turn itself learns nothing. Turns that a fork took over
    are its parent's.

    Returns:
        Advantages `[E, K]` (0 where there is nothing to learn) and targets `[E, K]` for the critic
        (NaN there).
    """
    assert episodes.values is not None
    values, is_turn = episodes.values, episodes.is_turn
    advantages = np.zeros_like(values)
    targets = np.full_like(values, np.nan)
    for row in np.flatnonzero(is_turn.any(axis=1)):
        end = int(episodes.num_turns[row])
        ahead, advantage = 0.0, 0.0
        if episodes.is_cut[row]:
            end -= 1
            ahead = float(values[row, end])
        for turn in reversed(range(int(episodes.fork_turn[row]), end)):
            delta = episodes.rewards[row, turn] + gamma * ahead - values[row, turn]
            advantage = delta + gamma * gae_lambda * advantage
            ahead = float(values[row, turn])
            advantages[row, turn] = advantage
            targets[row, turn] = advantage + ahead
    return advantages, targets


def ppo(episodes: Episodes, options: CreditOptions) -> Floats:
    """Advantages by `gae`, brought to mean 0 and deviation 1 over the step: `[E, K]`."""
    advantages, targets = gae(episodes, options.gamma, options.gae_lambda)
    learns = ~np.isnan(targets)
    if options.is_whitened:
        advantages[learns] = z_scores(advantages[learns])
    return advantages
