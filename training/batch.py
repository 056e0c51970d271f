"""A training batch: sequences of tokens, and the rows of the loss that point into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from turnhalle.agents.core import Group
from turnhalle.agents.tree import Branch, branches

from .credit.assign import Credit

Column = NDArray[np.float32]
_Row = tuple[int, int, int, float, float]


@dataclass(frozen=True, slots=True)
class Batch:
    """Trajectories of one step; a row is one sampled token.

    A trajectory whose history was rewritten is several sequences, one a branch; each of its samples
    is a row of the branch it was drawn in, and context in the others. Where a token lies is said by
    `sequence` and `position`, whose it is by `sequence` and `turn`: losses read the second pair
    only.
    """

    sequences: list[NDArray[np.int64]]
    """For each branch of each trajectory `[T]` token ids."""
    episode: NDArray[np.int64]
    """`[B]` number of the trajectory among those of the step."""
    sequence: NDArray[np.int64]
    """`[M]` the sequence that the row's token is in; rows of a sequence are next to each other."""
    position: NDArray[np.int64]
    """`[M]` where in the sequence the token is; the state before it predicts it."""
    turn: NDArray[np.int64]
    """`[M]` the turn of the trajectory that the token belongs to."""
    advantage: Column
    """`[M]`"""
    sampler_logprob: Column
    """`[M]` the engine's log-prob of the token, before top-k and top-p left others out."""
    old_logprob: Column
    """`[M]` log-prob before the update; the engine's, unless the trainer computed its own."""
    ref_logprob: Column
    """`[M]` log-prob under the policy that training started from; the engine's if not needed."""
    weight: Column
    """`[M]` of the row in the loss, for a sampler that is not the policy: what top-k and top-p kept
    of the policy's mass, 1 without them; what `Learner.prepare` makes of it with a correction."""
    value_target: Column
    """`[M]` what a critic should say before the turn, on the turn's first row; NaN elsewhere."""

    @property
    def num_rows(self) -> int:
        """Number of sampled tokens."""
        return len(self.sequence)

    @property
    def num_tokens(self) -> int:
        """Number of all tokens."""
        return sum(len(s) for s in self.sequences)

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """`[M]` is the row the first of its turn?"""
        same = (self.sequence[1:] == self.sequence[:-1]) & (self.turn[1:] == self.turn[:-1])
        return np.concatenate([np.ones(min(1, self.num_rows), dtype=bool), ~same])

    @property
    def turn_id(self) -> NDArray[np.int64]:
        """`[M]` number of the turn among all turns of the batch."""
        return np.cumsum(self.is_first) - 1

    def rows_of(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        """The rows of some of the sequences, in the order given."""
        place = self._place(chosen)
        rows = np.flatnonzero(place[self.sequence] >= 0)
        return rows[np.argsort(place[self.sequence[rows]], kind="stable")]

    def select(self, chosen: Sequence[int]) -> Batch:
        """The batch of some of the sequences, in the order given."""
        rows = self.rows_of(chosen)
        return Batch(
            sequences=[self.sequences[i] for i in chosen],
            episode=self.episode[list(chosen)],
            sequence=self._place(chosen)[self.sequence[rows]],
            position=self.position[rows],
            turn=self.turn[rows],
            advantage=self.advantage[rows],
            sampler_logprob=self.sampler_logprob[rows],
            old_logprob=self.old_logprob[rows],
            ref_logprob=self.ref_logprob[rows],
            weight=self.weight[rows],
            value_target=self.value_target[rows],
        )

    def without(self, dropped: Sequence[int]) -> Batch:
        """The batch of the other sequences."""
        return self.select(sorted(set(range(len(self.sequences))) - set(dropped)))

    def with_credit(self, credit: Credit) -> Batch:
        """The trajectories of groups that teach something, with what their turns are worth."""
        chosen = np.flatnonzero(credit.teaches[self.episode]).tolist()
        batch = self.select(chosen)
        episode = batch.episode[batch.sequence]
        value_target = batch.value_target
        if credit.value_targets is not None:
            targets = credit.value_targets[episode, batch.turn]
            value_target = np.where(batch.is_first, targets, np.nan).astype(np.float32)
        advantage = credit.worth[episode, batch.turn].astype(np.float32)
        return replace(batch, advantage=advantage, value_target=value_target)

    def unusable(self) -> list[int]:
        """Sequences with a log-prob or weight that is no number."""
        columns = (self.sampler_logprob, self.old_logprob, self.ref_logprob, self.weight)
        is_bad = np.any([~np.isfinite(column) for column in columns], axis=0)
        return [int(i) for i in np.unique(self.sequence[is_bad])]

    def _place(self, chosen: Sequence[int]) -> NDArray[np.int64]:
        place = np.full(len(self.sequences), -1, dtype=np.int64)
        place[list(chosen)] = np.arange(len(chosen))
        return place


def lay_out(groups: Sequence[Group]) -> Batch:
    """Lay out the trajectories of a step, without credit; those masked or silent stay out.

    What a forked trajectory took over from its parent is context: its rows are the parent's.
    """
    sequences: list[NDArray[np.int64]] = []
    episodes: list[int] = []
    rows: list[_Row] = []
    played = [
        (trajectory, first)
        for group in groups
        for trajectory, (_, first) in zip(group.trajectories, group.forks(), strict=True)
    ]
    for episode, (trajectory, first) in enumerate(played):
        for branch in () if trajectory.is_masked else branches(trajectory):
            if own := _rows(branch, len(sequences), first):
                rows += own
                sequences.append(branch.token_ids)
                episodes.append(episode)
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    kept_mass = np.array(columns[4], dtype=np.float32)
    sampler_logprob = np.array(columns[3], dtype=np.float32) + np.log(kept_mass)
    return Batch(
        sequences=sequences,
        episode=np.array(episodes, dtype=np.int64),
        sequence=np.array(columns[0], dtype=np.int64),
        position=np.array(columns[1], dtype=np.int64),
        turn=np.array(columns[2], dtype=np.int64),
        advantage=np.zeros_like(sampler_logprob),
        sampler_logprob=sampler_logprob,
        old_logprob=sampler_logprob,
        ref_logprob=sampler_logprob,
        weight=kept_mass,
        value_target=np.full_like(sampler_logprob, np.nan),
    )


def make_batch(groups: Sequence[Group], credit: Credit) -> Batch:
    """Lay out the trajectories of a step that teach something."""
    return lay_out(groups).with_credit(credit)


def _rows(branch: Branch, sequence: int, first: int) -> list[_Row]:
    columns = (branch.position, branch.turn, branch.logprob, branch.kept_mass)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(sequence, *row) for row in rows if row[1] >= first]
