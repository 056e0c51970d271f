"""Credit in a tree of forked episodes: the branches of a fork are a group (arXiv 2506.11902)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .episodes import Episodes, Floats
from .options import CreditOptions
from .outcome import against_others


def tree(episodes: Episodes, options: CreditOptions) -> Floats:
    """Every stretch of turns between two forks against the others from its start: `[E, K]`.

    A stretch is worth the mean return of the episodes that go through it, minus the mean worth of
    the others that start at the same state. Without forks this is `rloo`. Turns before an episode's
    own first turn are its parent's: they have their credit there, and none here.
    """
    worth = np.zeros_like(episodes.rewards)
    returns = episodes.returns
    for members in episodes.members():
        for siblings in _siblings(episodes, members):
            values = np.array([returns[stretch.through].mean() for stretch in siblings])
            for stretch, value in zip(siblings, against_others(values), strict=True):
                worth[stretch.episode, stretch.first : stretch.last] = value
    return worth


class _Stretch:
    """Turns `first` to `last` - 1 of an episode, between two forks."""

    def __init__(self, episode: int, first: int, last: int, through: list[int]) -> None:
        self.episode, self.first, self.last = episode, first, last
        self.through = through
        """The episodes that have these turns: the episode itself and what was forked off behind."""


def _siblings(episodes: Episodes, members: NDArray[np.int64]) -> list[list[_Stretch]]:
    """The stretches of a group, those that start at the same state together."""
    start, parent, ends = episodes.fork_turn, episodes.fork_parent, episodes.num_turns
    children = {i: [j for j in members.tolist() if parent[j] == i] for i in members.tolist()}
    together: dict[tuple[int, int], list[_Stretch]] = {}
    for i in members.tolist():
        forks = sorted({int(start[j]) for j in children[i]} - {int(start[i])})
        for first, last in zip([int(start[i]), *forks], [*forks, int(ends[i])], strict=True):
            behind = [j for j in children[i] if start[j] >= last]
            through = [i, *(k for j in behind for k in _descendants(j, children))]
            together.setdefault(_state(episodes, i, first), []).append(
                _Stretch(i, first, last, through)
            )
    return list(together.values())


def _descendants(episode: int, children: dict[int, list[int]]) -> list[int]:
    return [episode, *(k for j in children[episode] for k in _descendants(j, children))]


def _state(episodes: Episodes, episode: int, turn: int) -> tuple[int, int]:
    """Names the state before a turn: the oldest episode that was in it, and the turn."""
    while episodes.fork_parent[episode] >= 0 and turn <= episodes.fork_turn[episode]:
        episode = int(episodes.fork_parent[episode])
    # Every episode of a group starts at the same task.
    return (-1, 0) if turn == 0 else (episode, turn)
