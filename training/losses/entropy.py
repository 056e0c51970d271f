"""The gradient of the policy's entropy, from the sampled tokens."""

from __future__ import annotations

import torch

from .rows import Rows


def entropy_surrogate(rows: Rows, entropies: torch.Tensor) -> torch.Tensor:
    """`[M]` whose gradient's mean over samples is the gradient of the entropy.

    grad H = E[(-log pi - H) grad log pi]: the score function with H itself as the baseline, over
    samples of the old policy weighed by the ratio. It needs one log-prob a token, where the exact
    gradient holds all logits once more. Its value means nothing.

    Args:
        rows: `[M]`.
        entropies: `[M]` of the distributions that the tokens were sampled from, in nats.
    """
    surprise = -rows.logprobs - entropies
    return (rows.log_ratio().exp() * surprise).detach() * rows.logprobs
