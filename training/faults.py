"""What goes wrong in a step: numbers that are none, memory that is not there."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .batch import Batch
from .scoring import Scores


class NotFiniteError(Exception):
    """Log-probs that are no numbers; caught by the learner, which leaves the episodes out."""

    def __init__(self, sequences: Sequence[int]) -> None:
        super().__init__(f"sequences {list(sequences)}")
        self.sequences = list(sequences)
        """Sequences of the update."""


def not_finite(scores: Scores, part: Batch, chosen: Sequence[int]) -> list[int]:
    """The sequences of a part with a log-prob or an advantage that is no number.

    A row cannot be masked after the fact: 0 times NaN is NaN in the backward pass too.

    Args:
        scores: Of the part.
        part: Sequences of an update.
        chosen: Which ones of the update they are.
    """
    is_bad = ~torch.isfinite(scores.logprobs.detach())
    is_bad |= ~torch.isfinite(torch.from_numpy(part.advantage).to(is_bad.device))
    bad = torch.from_numpy(part.sequence)[is_bad.cpu()]
    return [chosen[i] for i in torch.unique(bad).tolist()]


def is_out_of_memory(error: Exception) -> bool:
    """Did an allocation fail? CUDA has an error of its own; the CPU's is known by its words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error) and "allocate memory" in str(error)
