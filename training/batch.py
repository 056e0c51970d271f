"""A training batch: sequences of tokens, and the rows of the loss that point into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnhalle.agents.core import Group
from turnhalle.agents.tree import Branch, branches

from .credit import Advantages


@dataclass(frozen=True, slots=True)
class Batch:
    """Trajectories of one step; a row is one sampled token.

    A trajectory whose history was rewritten is several sequences, one a branch; each of its samples
    is a row of the branch it was drawn in, and context in the others.
    """

    sequences: list[NDArray[np.int64]]
    """For each branch of each trajectory `[T]` token ids."""
    sequence: NDArray[np.int64]
    """`[M]` the sequence that the row's token is in."""
    position: NDArray[np.int64]
    """`[M]` where in the sequence the token is; the state before it predicts it."""
    advantage: NDArray[np.float32]
    """`[M]`"""
    sampler_logprob: NDArray[np.float32]
    """`[M]` log-prob that the engine sampled the token with."""

    @property
    def num_rows(self) -> int:
        """Number of sampled tokens."""
        return len(self.sequence)

    @property
    def num_tokens(self) -> int:
        """Number of all tokens."""
        return sum(len(s) for s in self.sequences)

    def select(self, chosen: Sequence[int]) -> Batch:
        """The batch of some of the sequences, in the order given."""
        place = np.full(len(self.sequences), -1, dtype=np.int64)
        place[list(chosen)] = np.arange(len(chosen))
        rows = np.flatnonzero(place[self.sequence] >= 0)
        rows = rows[np.argsort(place[self.sequence[rows]], kind="stable")]
        return Batch(
            [self.sequences[i] for i in chosen],
            place[self.sequence[rows]],
            self.position[rows],
            self.advantage[rows],
            self.sampler_logprob[rows],
        )

    def micro_batches(self, max_tokens: int) -> list[Batch]:
        """Split by length, so that each part pads to at most `max_tokens` (or is one sequence)."""
        order = np.argsort([len(s) for s in self.sequences], kind="stable")
        parts: list[list[int]] = [[]]
        for i in order.tolist():
            if parts[-1] and (len(parts[-1]) + 1) * len(self.sequences[i]) > max_tokens:
                parts.append([])
            parts[-1].append(i)
        return [self.select(part) for part in parts if part]


def make_batch(groups: Sequence[Group], credits: Sequence[Advantages | None]) -> Batch:
    """Lay out the trajectories that teach something; those without variance or masked stay out."""
    sequences: list[NDArray[np.int64]] = []
    rows: list[tuple[int, int, float, float]] = []
    for group, advantages in zip(groups, credits, strict=True):
        if advantages is None:
            continue
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
            for branch in () if trajectory.is_masked else branches(trajectory):
                rows += _rows(branch, advantage, len(sequences))
                sequences.append(branch.token_ids)
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    return Batch(
        sequences,
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.float32),
        np.array(columns[3], dtype=np.float32),
    )


def _rows(
    branch: Branch, advantage: NDArray[np.float64], sequence: int
) -> list[tuple[int, int, float, float]]:
    worth = advantage[branch.turn].tolist()
    places, logprobs = branch.position.tolist(), branch.logprob.tolist()
    return [(sequence, *row) for row in zip(places, worth, logprobs, strict=True)]
