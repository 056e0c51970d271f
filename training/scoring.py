"""Forward passes over a batch: log-probs, entropies and values of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from turnhalle.agents.lm import LanguageModel
from turnhalle.kernels.logprob import token_logprobs

from .batch import Batch
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


def score(
    lm: LanguageModel, part: Batch, temperature: float, critic: ValueHead | None = None
) -> Scores:
    """Score the rows of a batch in one pass, padding on the right."""
    ids = pad(part.sequences).to(lm.device)
    sequence = torch.from_numpy(part.sequence).to(lm.device)
    position = torch.from_numpy(part.position).to(lm.device)
    hidden = lm.hidden_states(ids)[sequence, position - 1]
    values = None
    if critic is not None:
        values = critic(hidden[torch.from_numpy(part.is_first).to(lm.device)])
    targets = ids[sequence, position]
    logprobs, entropies = token_logprobs(hidden, lm.head, targets, temperature)
    return Scores(logprobs, entropies, values)


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


def pad(sequences: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    """`[B, T]`, padded on the right with token 0, which no row ever points to."""
    longest = max(len(s) for s in sequences)
    padded = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = torch.from_numpy(sequence)
    return padded
