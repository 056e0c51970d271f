"""Forward passes over a batch: log-probs, entropies and values of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from turnhalle.agents.lm import LanguageModel

from .batch import Batch
from .packing import ROWS, Layout, pack
from .value import ValueHead


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model says of the rows of a batch."""

    logprobs: torch.Tensor
    """`[M]` of the rows' tokens, at the sampling temperature."""
    entropies: torch.Tensor
    """`[M]` of the distributions they were sampled from, in nats; no gradient."""
    values: torch.Tensor | None
    """`[turns]` what the critic expects before each turn, where there is one."""
    num_nodes: int = 0
    """Tokens that went through the model, padding included."""


def score(
    lm: LanguageModel,
    part: Batch,
    temperature: float,
    critic: ValueHead | None = None,
    layout: Layout = ROWS,
) -> Scores:
    """Score the rows of a batch in one pass."""
    packed = pack(part.sequences, layout)
    states = packed.states(lm)
    nodes = packed.nodes(part.sequence, part.position)
    values = None
    if critic is not None:
        before = packed.parent[nodes[part.is_first]]
        values = critic(states.index_select(0, torch.from_numpy(before).to(lm.device)))
    logprobs, entropies = packed.logprobs(lm, states, nodes, temperature)
    return Scores(logprobs, entropies, values, len(packed.token))


@torch.no_grad()
def score_all(
    batch: Batch,
    parts: Sequence[Sequence[int]],
    score_part: Callable[[Batch], torch.Tensor],
    of_turns: bool,
) -> NDArray[np.float32]:
    """Score parts of a batch; `[M]` in the order of the batch's rows, or `[turns]` of its turns.

    What is in no part is 0.
    """
    count = int(batch.is_first.sum()) if of_turns else batch.num_rows
    scores = np.zeros(count, dtype=np.float32)
    for part in parts:
        rows = batch.rows_of(part)
        if of_turns:
            rows = batch.turn_id[rows[batch.is_first[rows]]]
        scores[rows] = score_part(batch.select(part)).float().cpu().numpy()
    return scores
