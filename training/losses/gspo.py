"""GSPO: the ratio of a whole sequence, clipped as one (arXiv 2507.18071)."""

from __future__ import annotations

from typing import Literal

from .ppo import clip
from .rows import PolicyLoss, Rows, clamp_log, mean_by


def gspo(
    rows: Rows, clip_low: float, clip_high: float, level: Literal["sequence", "turn"] = "sequence"
) -> PolicyLoss:
    """The clipped surrogate of s = exp(mean log-ratio over the sequence), equations 5 to 7.

    Written a token a row (equations 14 and 15, GSPO-token): every token has the ratio of its
    sequence, and the gradient of its own log-prob. Where all tokens of a sequence have one
    advantage, value and gradient are those of the sequence form; where turns have their own, each
    turn's advantage moves its own tokens only.

    Args:
        rows: `[M]`.
        clip_low: As in `ppo`; the paper's ranges are about 1000 times as narrow.
        clip_high: As in `ppo`.
        level: What has one ratio: the sequence of tokens, or each turn in it.
    """
    segment = rows.sequence if level == "sequence" else rows.turn
    mean = mean_by((rows.logprobs - rows.old_logprobs).detach(), segment)
    ratio = clamp_log(mean + rows.logprobs - rows.logprobs.detach()).exp()
    return clip(ratio, rows.advantages, clip_low, clip_high)
