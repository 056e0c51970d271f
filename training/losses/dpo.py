"""Direct preference optimisation (arXiv 2305.18290, equation 7)."""

from __future__ import annotations

import torch


def dpo(margins: torch.Tensor, ref_margins: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid(beta (margin - margin of the reference)), a pair an entry.

    Args:
        margins: `[N]` log pi(chosen) - log pi(rejected), summed over the answers' tokens.
        ref_margins: `[N]` the same of the policy before the stage.
        beta: How much a nat of preference is worth; small ones let the policy move far.
    """
    return -torch.nn.functional.logsigmoid(beta * (margins - ref_margins))
