"""CISPO: a capped ratio weighs the log-prob, so that no token loses its gradient."""

from __future__ import annotations

from .rows import PolicyLoss, Rows


def cispo(rows: Rows, clip_high: float) -> PolicyLoss:
    """-stop(min(r, 1 + clip_high)) A log pi (MiniMax-M1, arXiv 2506.13585, equations 4 and 5).

    As in the paper's runs there is no lower bound. TRL's `epsilon_high` is 1 + clip_high.
    """
    ratio = rows.log_ratio().exp().detach()
    weight = ratio.clamp(max=1.0 + clip_high)
    return PolicyLoss(-weight * rows.advantages * rows.logprobs, ratio > weight)
