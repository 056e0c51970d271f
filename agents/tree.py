"""The token tree: trajectories merged by tokens, so that every shared prefix is there once.

Branches come of forks, of a rewritten history, of a summary, or simply of sampling another token.
Nodes are numbered in depth-first order: a parent comes before its children, a subtree is a range. A
straight trajectory is a tree with one leaf, whose nodes are its positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core import Segment, Trajectory

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Branch:
    """A sequence that a trajectory sampled from, from the first token to where it broke off."""

    token_ids: Ints
    """`[T]`"""
    position: Ints
    """`[R]` of the tokens that were sampled in this branch; those sampled before it branched off
    belong to an earlier one."""
    turn: Ints
    """`[R]` number of the turn."""
    logprob: Floats
    """`[R]` log-prob that the token was sampled with."""
    kept_mass: Floats
    """`[R]` how probable all tokens together were that it was sampled among; 1 where those were
    all."""


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Nodes, each a token in its context, and the loss rows that point to them."""

    token: Ints
    """`[N]`"""
    parent: Ints
    """`[N]` node before it, less than its own number; -1 for the first of a sequence."""
    position: Ints
    """`[N]` number of nodes before it, on the way from the root."""
    node: Ints
    """`[M]` the node that was sampled. Rollouts that sampled the same share it and keep a row
    each."""
    trajectory: Ints
    """`[M]`"""
    turn: Ints
    """`[M]`"""
    logprob: Floats
    """`[M]` log-prob that the token was sampled with."""
    leaf: Ints
    """`[L]` the last node of each branch."""
    leaf_trajectory: Ints
    """`[L]` whose branch it is."""

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return len(self.token)

    @property
    def num_rows(self) -> int:
        """Number of sampled tokens, those of shared nodes counted for each trajectory."""
        return len(self.node)

    def path(self, node: int) -> Ints:
        """`[T]` the nodes from the root to a node, itself included."""
        starts = np.flatnonzero(self.parent != np.arange(self.num_nodes) - 1)
        chains: list[Ints] = []
        while node >= 0:
            before = int(np.searchsorted(starts, node, side="right"))
            first = int(starts[before - 1]) if before else 0
            chains.append(np.arange(first, node + 1))
            node = int(self.parent[first])
        return np.concatenate(chains[::-1]) if chains else np.empty(0, dtype=np.int64)


def branches(trajectory: Trajectory) -> list[Branch]:
    """The sequences that a trajectory sampled from; one, where nothing was rewritten."""
    found: list[Branch] = []
    before = np.empty(0, dtype=np.int64)
    segments: list[tuple[int, Segment]] = []
    for number, turn in enumerate(trajectory.turns):
        for segment in turn.segments:
            if segment.parent is not None and segments:
                found.append(_branch(before, segments))
                before, segments = found[-1].token_ids[: segment.parent + 1], []
            segments.append((number, segment))
    if segments:
        found.append(_branch(before, segments))
    return [branch for branch in found if len(branch.position)]


def grow_tree(trajectories: Sequence[Trajectory]) -> TokenTree:
    """Merge trajectories, those without tokens left out, in time linear in their tokens.

    A fork holds the turns that it took over too: a row each, as where others sampled the same.
    """
    owners = [(i, b) for i, trajectory in enumerate(trajectories) for b in branches(trajectory)]
    nodes, paths = merge([branch.token_ids for _, branch in owners])
    return TokenTree(
        *nodes,
        node=_joined([path[b.position] for path, (_, b) in zip(paths, owners, strict=True)]),
        trajectory=_joined([np.full(len(b.position), i) for i, b in owners]),
        turn=_joined([b.turn for _, b in owners]),
        logprob=_joined([b.logprob for _, b in owners], np.float32),
        leaf=np.array([path[-1] for path in paths], dtype=np.int64),
        leaf_trajectory=np.array([i for i, _ in owners], dtype=np.int64),
    )


def merge(
    sequences: Sequence[Ints], least: float = 0.0
) -> tuple[tuple[Ints, Ints, Ints], list[Ints]]:
    """A trie of sequences: its nodes' tokens, parents and positions; each sequence's nodes.

    With `least`, as in `in_order`, it is a forest in which some prefixes are there several times.
    """
    paths = [np.empty(0, dtype=np.int64)] * len(sequences)
    tokens, parents, positions = [], [], []
    path = np.empty(0, dtype=np.int64)
    size = 0
    for i, shared in in_order(sequences, least):
        sequence = sequences[i]
        fresh = np.arange(size, size + len(sequence) - shared)
        if len(fresh):
            tokens.append(sequence[shared:])
            positions.append(np.arange(shared, len(sequence)))
            above = path[shared - 1] if shared else -1
            parents.append(np.concatenate([[above], fresh[:-1]]))
        path = np.concatenate([path[:shared], fresh])
        paths[i], size = path, size + len(fresh)
    return (_joined(tokens), _joined(parents), _joined(positions)), paths


def in_order(sequences: Sequence[Ints], least: float = 0.0) -> list[tuple[int, int]]:
    """Sequences in lexicographic order: of each its number, and how much it shares with the last.

    So much, and no more, it shares with any of those before it.

    Args:
        sequences: `[T]` each.
        least: A subtree has a prefix for itself, unless sharing it saves more nodes than this share
            of the subtree's. Some of the sequences alone may share less among them.
    """
    order = sorted(range(len(sequences)), key=lambda i: sequences[i].astype(">u4").tobytes())
    ordered = [sequences[i] for i in order]
    shared = [0, *(_num_shared(a, b) for a, b in pairwise(ordered))][: len(order)]
    if least:
        shared = _worth_sharing(shared, [len(sequence) for sequence in ordered], least)
    return list(zip(order, shared, strict=True))


def _worth_sharing(shared: Sequence[int], lengths: Sequence[int], least: float) -> list[int]:
    """What sequences in order share with the last, where that is worth it."""
    kept = list(shared)
    subtrees = [(0, len(shared), 0)]  # first, one past the last, and the depth that they begin at
    while subtrees:
        first, end, depth = subtrees.pop()
        if end - first < 2:
            continue
        until = min(shared[first + 1 : end])
        forks = [i for i in range(first + 1, end) if shared[i] == until]
        for fork, after in pairwise([*forks, end]):
            size = sum(lengths[fork:after]) - until - sum(shared[fork + 1 : after])
            kept[fork] = until if until - depth > least * size else depth
            subtrees.append((fork, after, kept[fork]))
        subtrees.append((first, forks[0], max(kept[fork] for fork in forks)))
    return kept


def _branch(before: Ints, segments: Sequence[tuple[int, Segment]]) -> Branch:
    """Lay out the segments of a branch behind the tokens it branched off from."""
    parts, positions, turns, logprobs, masses = [before], [], [], [], []
    at = len(before)
    for number, segment in segments:
        parts.append(np.array(segment.token_ids, dtype=np.int64))
        if segment.logprobs is not None:
            positions.append(np.arange(at, at + len(segment.token_ids)))
            turns.append(np.full(len(segment.token_ids), number))
            logprobs.append(np.array(segment.logprobs, dtype=np.float32))
            masses.append(np.array(segment.kept_mass or np.ones_like(logprobs[-1])))
        at += len(segment.token_ids)
    return Branch(
        np.concatenate(parts),
        _joined(positions),
        _joined(turns),
        _joined(logprobs, np.float32),
        _joined(masses, np.float32),
    )


def _num_shared(a: Ints, b: Ints) -> int:
    shorter = min(len(a), len(b))
    differ = a[:shorter] != b[:shorter]
    at = int(differ.argmax()) if shorter else 0
    return at if shorter and differ[at] else shorter


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic] = np.int64) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype=dtype)
