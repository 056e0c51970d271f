"""How sequences become one forward pass: as a forest of shared prefixes, or as padded rows.

In a forest every shared prefix (a system prompt, a task's prompt, the turns before a fork) is there
once, and nothing is padded; sequences that share nothing are trees without branches. Log-probs,
losses and gradients are those of the padded rows, to rounding. Rows are for architectures whose
attention cannot be asked for trees.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.tree import in_order, merge
from turnhalle.kernels.logprob import token_logprobs
from turnhalle.kernels.tree_attention import Tree, tree_of

Ints = NDArray[np.int64]
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Most that log-probs of trees and rows may differ, in nats, by the model's dtype. In 16 bits that
is rounding: trainer and engine differ as much."""

_NUM_CHECKED = 4
"""Sequences of the first batch that are computed in both layouts."""

_ENOUGH = 1024
"""Nodes of a pass on a CPU: its matrices then stay in the cache. Measured on a Zen 4, hidden size
128: an update of 14,000 tokens takes 8 % less in passes of 1,400 nodes than in one, and more again
below 800."""

_MERGE_COST = 320.0
"""What one number of a node's attention costs to merge with a shared prefix, by what a parameter
of the layer costs on that node. Measured on a Zen 4: 16 ns against 50 ps."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How sequences become passes."""

    is_tree: bool
    """Whether shared prefixes are there once; else sequences are padded rows."""
    least: float = 0.0
    """What sharing a prefix must save, as a share of what is below it."""
    enough: float = math.inf
    """A pass of so many nodes takes no further tree, or row."""


TREE, ROWS = Layout(is_tree=True), Layout(is_tree=False)


@dataclass(frozen=True, slots=True)
class Packed:
    """The nodes of a forward pass; padding is nodes that nobody asks for."""

    token: Ints
    """`[N]`"""
    parent: Ints
    """`[N]` the node before it, whose state predicts it; -1 for the first of a sequence."""
    paths: list[Ints]
    """For each sequence `[T]` its nodes."""
    tree: Tree | None
    """None where the nodes are a grid of as many rows as there are sequences."""

    def nodes(self, sequence: Ints, position: Ints) -> Ints:
        """`[M]` the nodes of tokens, by sequence and position."""
        first = np.cumsum([0, *(len(path) for path in self.paths)])
        nodes: Ints = np.concatenate(self.paths)[first[sequence] + position]
        return nodes

    def states(self, lm: LanguageModel) -> torch.Tensor:
        """Hidden states `[N, H]` of all nodes, in one pass."""
        ids = torch.from_numpy(self.token).to(lm.device)
        if self.tree is None:
            return lm.hidden_states(ids.view(len(self.paths), -1)).flatten(0, 1)
        return lm.tree_states(ids, self.tree.to(lm.device))

    def logprobs(
        self, lm: LanguageModel, states: torch.Tensor, nodes: Ints, temperature: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies `[M]` of nodes, each computed once however often it is named."""
        drawn, place = np.unique(nodes, return_inverse=True)
        before = torch.from_numpy(self.parent[drawn]).to(lm.device)
        targets = torch.from_numpy(self.token[drawn]).to(lm.device)
        hidden = states.index_select(0, before)
        scores = token_logprobs(hidden, lm.head, targets, temperature)
        rows = torch.from_numpy(place).to(lm.device)
        return scores[0].index_select(0, rows), scores[1].index_select(0, rows)


def pack(sequences: Sequence[Ints], layout: Layout) -> Packed:
    """Lay sequences `[T]` out for one pass."""
    if layout.is_tree:
        (token, parent, _), paths = merge(sequences, layout.least)
        return Packed(token, parent, paths, tree_of(parent))
    longest = max(len(sequence) for sequence in sequences)
    grid = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in zip(grid, sequences, strict=True):
        row[: len(sequence)] = sequence
    parent = np.arange(grid.size) - 1
    parent[::longest] = -1
    paths = [row * longest + np.arange(len(s)) for row, s in enumerate(sequences)]
    return Packed(grid.ravel(), parent, paths, None)


def parts(sequences: Sequence[Ints], layout: Layout, max_nodes: int) -> list[list[int]]:
    """Numbers of the sequences of passes of at most `max_nodes` nodes each, or of one sequence.

    Trees hold what shares most, rows what is about as long, so that they pad little.
    """
    if layout.is_tree:
        ordered = in_order(sequences, layout.least)
    else:
        by_length = np.argsort([len(s) for s in sequences], kind="stable")
        ordered = [(i, 0) for i in by_length.tolist()]
    waiting, found = deque(ordered), []
    while waiting:
        part = [waiting.popleft()]
        size = len(sequences[part[0][0]])
        while waiting:
            i, shared = waiting[0]
            is_full = size >= layout.enough and not shared
            length = len(sequences[i])
            size = size + length - shared if layout.is_tree else (len(part) + 1) * length
            if is_full or size > max_nodes:
                break
            part.append(waiting.popleft())
        # What is worth sharing among all may not be among the few of a part, so they are counted
        # again; what is over begins the next part.
        while len(part) > 1 and _num_nodes([sequences[i] for i, _ in part], layout) > max_nodes:
            waiting.appendleft(part.pop())
        found.append([i for i, _ in part])
    return found


def _num_nodes(sequences: Sequence[Ints], layout: Layout) -> int:
    """Nodes of the pass of sequences."""
    if not layout.is_tree:
        return len(sequences) * max(map(len, sequences))
    ordered = in_order(sequences, layout.least)
    return sum(len(sequences[i]) - shared for i, shared in ordered)


class Packing:
    """How a learner lays out its batches: as trees, unless these are found to be wrong."""

    def __init__(self, lm: LanguageModel, asked: Literal["auto", "tree", "rows"]) -> None:
        """Decide.

        Args:
            lm: The model.
            asked: auto is trees on a CPU, where they were measured to be faster, else rows.
        """
        self._lm = lm
        is_cpu = lm.device.type == "cpu"
        wants_tree = asked == "tree" or (asked == "auto" and is_cpu)
        self.layout = TREE if wants_tree and not lm.no_trees else ROWS
        if is_cpu:
            least = _MERGE_COST * lm.attention_width / lm.layer_parameters
            self.layout = replace(self.layout, least=least, enough=_ENOUGH)
        self._notes: list[str] = []
        if wants_tree and lm.no_trees:
            self._notes.append(
                f"batches are computed as padded rows: {lm.config.model_type} has no token trees "
                f"here, for {lm.no_trees}"
            )
        self._is_checked = not self.layout.is_tree

    def parts(self, sequences: Sequence[Ints], max_nodes: int) -> list[list[int]]:
        """The parts of a batch; those of the first one after a look at it."""
        if not self._is_checked:
            first = parts(sequences, self.layout, max_nodes)[0]
            self._check([sequences[i] for i in first[:_NUM_CHECKED]], max_nodes)
            self._is_checked = True
        return parts(sequences, self.layout, max_nodes)

    def take_notes(self) -> list[str]:
        """What is to be told, once."""
        notes, self._notes = self._notes, []
        return notes

    @torch.no_grad()
    def _check(self, sequences: Sequence[Ints], max_nodes: int) -> None:
        """Compare trees with rows on real sequences; go on with rows where they differ."""
        bound = TOLERANCE[self._lm.model.dtype]
        for chosen in parts(sequences, ROWS, max_nodes):
            few = [sequences[i] for i in chosen]
            tree, rows = (_score_everything(self._lm, few, layout) for layout in (TREE, ROWS))
            difference = (tree - rows).abs()[rows.isfinite()]
            # Written so that a log-prob that is no number is not within.
            if not bool((difference <= bound).all()):
                self.layout = replace(self.layout, is_tree=False)
                self._notes.append(
                    "batches are computed as padded rows: as token trees the log-probs of "
                    f"{self._lm.config.model_type} differ by up to {difference.max():.2g} nats "
                    f"(allowed {bound:.2g}). Please report it, with the model's name"
                )
                return


def _score_everything(lm: LanguageModel, sequences: Sequence[Ints], layout: Layout) -> torch.Tensor:
    packed = pack(sequences, layout)
    nodes = np.concatenate([path[1:] for path in packed.paths])
    return packed.logprobs(lm, packed.states(lm), nodes)[0]
