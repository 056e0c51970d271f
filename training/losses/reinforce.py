"""REINFORCE: the plain policy gradient (Williams 1992), right for tokens of the current policy."""

from __future__ import annotations

import torch

from .rows import PolicyLoss, Rows


def reinforce(rows: Rows) -> PolicyLoss:
    """-A log pi. Nothing corrects for tokens that an older policy sampled."""
    held = torch.zeros_like(rows.logprobs, dtype=torch.bool)
    return PolicyLoss(-rows.advantages * rows.logprobs, held)
