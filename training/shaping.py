"""What is added to the rewards before credit: the price of long turns and of leaving the start.

Success, and the rewards that the store records, stay those of the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents.core import Group, Turn

from .batch import Batch
from .credit.episodes import Episodes, Floats
from .losses.kl import kl_estimate
from .losses.options import KlOptions


class OverlongOptions(BaseModel):
    """A price on turns that come near their limit of tokens."""

    model_config = ConfigDict(extra="forbid")

    buffer_tokens: int = Field(0, ge=0)
    """The price rises along a line over the last so many tokens before the limit; 0 is no price."""
    penalty: float = Field(1.0, gt=0)
    """What a turn of full length pays."""


def overlong_prices(
    groups: Sequence[Group], max_new_tokens: int, options: OverlongOptions
) -> list[list[float]]:
    """For each episode and turn its price (soft overlong punishment, arXiv 2503.14476, eq. 13)."""
    free = max_new_tokens - options.buffer_tokens

    def price(turn: Turn) -> float:
        length = sum(len(s.token_ids) for s in turn.segments if s.is_sampled)
        return options.penalty * max(0, length - free) / options.buffer_tokens

    return [[price(turn) for turn in t.turns] for g in groups for t in g.trajectories]


def kl_prices(batch: Batch, episodes: Episodes, options: KlOptions) -> Floats:
    """`[E, K]` weight times the sum of a turn's KL estimates, in reward.

    The rows of a turn that forks share are its first episode's; every episode through it pays.
    """
    old, reference = torch.from_numpy(batch.old_logprob), torch.from_numpy(batch.ref_logprob)
    estimates = kl_estimate(old.double(), reference.double(), options.estimator).numpy()
    prices = np.zeros(episodes.rewards.shape)
    np.add.at(prices, (batch.episode[batch.sequence], batch.turn), estimates)
    # A fork stands behind its parent, whose turns have all their prices by then.
    for fork in np.flatnonzero(episodes.fork_parent >= 0):
        shared = slice(episodes.fork_turn[fork])
        prices[fork, shared] = prices[episodes.fork_parent[fork], shared]
    return options.weight * prices


def pay(episodes: Episodes, prices: Floats | list[list[float]]) -> Episodes:
    """The episodes after every turn paid its price."""
    rewards = episodes.rewards.copy()
    for row, of_turns in enumerate(prices):
        rewards[row, : len(of_turns)] -= of_turns
    return episodes.with_rewards(rewards)


def leave_out(episodes: Episodes, rows: NDArray[np.int64] | list[int]) -> Episodes:
    """The episodes with some of them masked."""
    is_masked = episodes.is_masked.copy()
    is_masked[rows] = True
    return replace(episodes, is_masked=is_masked)
