"""Batches: rows point at sampled tokens, and splitting loses none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnhalle.agents.core import Group, Segment, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.tasks import Task
from turnhalle.training.batch import Batch, lay_out, make_batch
from turnhalle.training.credit.assign import Credit
from turnhalle.training.credit.episodes import read_episodes

TASK = Task("x", "train", 0, 1, {})


def trajectory(turns: list[tuple[int, int]], first: int = 0, masked: bool = False) -> Trajectory:
    """Turns of so many observed and sampled tokens; every token has its own id."""
    made = []
    token = first
    for seen, sampled in turns:
        observed = list(range(token, token + seen))
        written = list(range(token + seen, token + seen + sampled))
        token += seen + sampled
        logprobs = [-0.001 * i for i in written]
        made.append(Turn("", "", 0.0, segments=[Segment(observed), Segment(written, logprobs)]))
    stop = StopReason.CANCELLED if masked else StopReason.FINISHED
    return Trajectory(TASK, 0, made, stop=stop)


TURNS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=4)


def batch_of(shapes: list[list[tuple[int, int]]]) -> Batch:
    trajectories = [trajectory(turns, first=1000 * i) for i, turns in enumerate(shapes)]
    longest = max(len(turns) for turns in shapes)
    worth = np.array([np.arange(longest) + 10.0 * i for i in range(len(shapes))])
    return make_batch([Group(TASK, trajectories)], credit(worth, [True] * len(shapes)))


def credit(worth: Any, teaches: list[bool], value_targets: Any = None) -> Credit:
    return Credit(np.array(worth), np.array(teaches), 1, 1, value_targets)


@given(st.lists(TURNS, min_size=1, max_size=5))
def test_every_sampled_token_is_one_row_and_no_other_is(
    shapes: list[list[tuple[int, int]]],
) -> None:
    batch = batch_of(shapes)
    assert batch.num_rows == sum(sampled for turns in shapes for _, sampled in turns)
    assert batch.num_tokens == sum(seen + sampled for turns in shapes for seen, sampled in turns)
    tokens = [batch.sequences[s][p] for s, p in zip(batch.sequence, batch.position, strict=True)]
    assert batch.sampler_logprob.tolist() == pytest.approx([-0.001 * t for t in tokens])
    assert (batch.position > 0).all()


def test_rows_carry_the_advantage_of_their_turn() -> None:
    batch = batch_of([[(2, 1), (1, 2)], [(1, 1)]])
    assert batch.advantage.tolist() == [0.0, 1.0, 1.0, 10.0]
    assert batch.position.tolist() == [2, 4, 5, 1]


def test_a_rewritten_history_makes_sequences_with_their_own_samples_only() -> None:
    played = trajectory([(2, 3), (1, 1)])
    played.turns[1].segments[0].parent = 1
    worth = np.array([[1.0, 2.0], [1.0, 0.0]])
    credit = Credit(worth, np.array([True, True]), num_groups=1, num_teaching=1)
    batch = make_batch([Group(TASK, [played, trajectory([(1, 1)])])], credit)
    assert batch.episode.tolist() == [0, 0, 1]
    assert [s.tolist() for s in batch.sequences] == [[0, 1, 2, 3, 4], [0, 1, 5, 6], [0, 1]]
    assert batch.sequence.tolist() == [0, 0, 0, 1, 2]
    assert batch.position.tolist() == [2, 3, 4, 3, 1]
    assert batch.advantage.tolist() == [1, 1, 1, 2, 1]


def forked() -> Group:
    """A trajectory of three turns, one forked off after the first, and one off that after two."""
    parent, child, grandchild = (trajectory([(1, 2), (1, 1), (1, 1)]) for _ in range(3))
    child.sample, child.fork_parent, child.fork_turn = 1, 0, 1
    grandchild.sample, grandchild.fork_parent, grandchild.fork_turn = 2, 1, 2
    return Group(TASK, [parent, child, grandchild])


def test_turns_before_a_fork_are_rows_of_the_parent_only() -> None:
    batch = lay_out([Group(TASK, [trajectory([(1, 1)])]), forked()])
    turns = [batch.turn[batch.sequence == i].tolist() for i in range(4)]
    assert turns == [[0], [0, 0, 1, 2], [1, 2], [2]]
    assert [len(s) for s in batch.sequences] == [2, 7, 7, 7]
    episodes = read_episodes([Group(TASK, [trajectory([(1, 1)])]), forked()])
    assert episodes.fork_parent.tolist() == [-1, -1, 1, 2]
    assert episodes.fork_turn.tolist() == [0, 0, 1, 2]


def test_a_fork_of_a_masked_parent_takes_over_what_the_parent_cannot_teach() -> None:
    group = forked()
    group.trajectories[1].stop = StopReason.TIMEOUT
    assert group.forks() == [(-1, 0), (0, 1), (0, 1)]
    group.trajectories[0].stop = StopReason.TIMEOUT
    assert group.forks() == [(-1, 0), (-1, 0), (-1, 0)]
    assert lay_out([group]).turn.tolist() == [0, 0, 1, 2]


def test_masked_skipped_and_silent_episodes_stay_out() -> None:
    group = Group(TASK, [trajectory([(1, 2)]), trajectory([(1, 2)], masked=True)])
    silent = Group(TASK, [Trajectory(TASK, 0, [], stop=StopReason.CONTEXT)] * 2)
    teaches = [True, True, False, False, True, True]
    batch = make_batch([group, group, silent], credit(np.ones((6, 1)), teaches))
    assert batch.episode.tolist() == [0]
    assert batch.num_rows == 2
    assert make_batch([group], credit(np.zeros((2, 1)), [False, False])).num_rows == 0


def test_tokens_weigh_what_top_p_kept_and_are_scored_before_it() -> None:
    played = trajectory([(3, 2), (2, 3)])
    played.turns[1].segments[1].kept_mass = [0.5, 1.0, 0.8]
    batch = lay_out([Group(TASK, [played])])
    assert batch.weight == pytest.approx([1.0, 1.0, 0.5, 1.0, 0.8])
    sampled = np.array([x for turn in played.turns for x in turn.segments[1].logprobs or ()])
    assert batch.sampler_logprob == pytest.approx(sampled + np.log(batch.weight))
    assert (batch.old_logprob == batch.sampler_logprob).all()


def test_a_turn_of_no_tokens_at_all_has_no_row_and_spoils_no_other() -> None:
    played = trajectory([(3, 2), (2, 3)])
    empty = Turn("", "", 1.0, segments=[Segment([7, 8]), Segment([], [])])
    played.turns.insert(1, empty)
    batch = lay_out([Group(TASK, [played])])
    assert batch.turn.tolist() == [0, 0, 2, 2, 2]
    assert batch.is_first.tolist() == [True, False, True, False, False]
    ids = batch.sequences[0]
    assert [int(ids[p]) for p in batch.position] == [3, 4, 7, 8, 9]


def test_the_critic_learns_from_the_first_token_of_every_turn() -> None:
    group = Group(TASK, [trajectory([(2, 2), (1, 3)]), trajectory([(1, 1)])])
    targets = np.array([[0.5, np.nan], [0.7, np.nan]])
    batch = make_batch([group], credit(np.ones((2, 2)), [True, True], targets))
    assert batch.is_first.tolist() == [True, False, True, False, False, True]
    assert batch.turn_id.tolist() == [0, 0, 1, 1, 1, 2]
    assert np.nan_to_num(batch.value_target, nan=-1).tolist() == pytest.approx(
        [0.5, -1, -1, -1, -1, 0.7]
    )


def test_sequences_with_numbers_that_are_none_are_named_and_can_be_left_out() -> None:
    batch = batch_of([[(1, 2)], [(1, 2)], [(1, 2)]])
    assert batch.unusable() == []
    batch.old_logprob[3] = np.nan
    assert batch.unusable() == [1]
    assert batch.without([1]).episode.tolist() == [0, 2]
