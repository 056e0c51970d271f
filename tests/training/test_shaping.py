"""Prices are paid before credit, turn by turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from turnhalle.agents.core import Group, Segment, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.tasks import Task
from turnhalle.training.batch import lay_out
from turnhalle.training.credit.episodes import read_episodes
from turnhalle.training.losses.options import KlOptions
from turnhalle.training.shaping import (
    OverlongOptions,
    kl_prices,
    leave_out,
    overlong_prices,
    pay,
)

TASK = Task("x", "train", 0, 1, {})


def group(*lengths: list[int]) -> Group:
    """Episodes by how many tokens each of their turns has; each turn pays 1."""
    return Group(
        TASK,
        [
            Trajectory(
                TASK,
                i,
                [Turn("", "", 1.0, segments=[Segment([1]), Segment([2] * n, [-0.5] * n)])
                 for n in turns],
                stop=StopReason.FINISHED,
            )
            for i, turns in enumerate(lengths)
        ],
    )  # fmt: skip


def test_turns_near_the_limit_pay_along_a_line() -> None:
    options = OverlongOptions(buffer_tokens=4, penalty=0.5)
    prices = overlong_prices([group([3, 6, 8], [7])], 10, options)
    assert prices == [[0.0, 0.0, 0.25], [0.125]]
    paid = pay(read_episodes([group([3, 6, 8], [7])]), prices)
    assert paid.rewards.tolist() == [[1.0, 1.0, 0.75], [0.875, 0.0, 0.0]]
    assert paid.returns.tolist() == [2.75, 0.875]


def test_a_turn_pays_for_the_sum_of_its_tokens() -> None:
    groups = [group([2, 1], [1])]
    reference = np.array([-0.6, -0.7, -0.5, -1.5], dtype=np.float32)
    batch = replace(lay_out(groups), ref_logprob=reference)
    options = KlOptions(weight=2.0, estimator="k1", place="reward")
    prices = kl_prices(batch, read_episodes(groups), options)
    assert prices == pytest.approx(np.array([[0.6, 0.0], [2.0, 0.0]]), abs=1e-6)


def test_forks_pay_for_the_turns_they_share() -> None:
    """The price of a turn is in the return of every episode that went through it."""
    forked = group([1, 1, 1], [1, 1, 1], [1, 1, 1])
    for child, (parent, turn) in {1: (0, 1), 2: (1, 2)}.items():
        trajectory = forked.trajectories[child]
        trajectory.fork_parent, trajectory.fork_turn = parent, turn
    batch = lay_out([forked])
    assert batch.num_rows == 3 + 2 + 1
    reference = batch.old_logprob - np.arange(1, 7, dtype=np.float32)
    batch = replace(batch, ref_logprob=reference)
    options = KlOptions(weight=1.0, estimator="k1", place="reward")
    prices = kl_prices(batch, read_episodes([forked]), options)
    assert prices == pytest.approx(np.array([[1, 2, 3], [1, 4, 5], [1, 4, 6]]), abs=1e-6)


def test_what_is_left_out_does_not_count() -> None:
    episodes = leave_out(read_episodes([group([1], [1], [1])]), [1])
    assert episodes.is_masked.tolist() == [False, True, False]
    assert [m.tolist() for m in episodes.members()] == [[0, 2]]
