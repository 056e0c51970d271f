"""PPO's clipped surrogate, symmetric or not (DAPO), with an optional dual clip.

Clip: arXiv 1707.06347, equation 7. Asymmetric range: arXiv 2503.14476, section 3.1. Dual clip:
arXiv 1912.09729, equation 5.
"""

from __future__ import annotations

import torch

from .rows import PolicyLoss, Rows


def ppo(
    rows: Rows, clip_low: float, clip_high: float, dual_clip: float | None = None
) -> PolicyLoss:
    """-min(r A, clip(r, 1 - low, 1 + high) A), r the ratio of a token.

    Args:
        rows: `[M]`.
        clip_low: The ratio is held above 1 - clip_low where the advantage is negative.
        clip_high: The ratio is held below 1 + clip_high where it is positive.
        dual_clip: Also below this where it is negative; above 1 + clip_high.
    """
    return clip(rows.log_ratio().exp(), rows.advantages, clip_low, clip_high, dual_clip)


def clip(
    ratio: torch.Tensor,
    advantages: torch.Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """The surrogate of given ratios `[M]`."""
    held = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages
    plain = ratio * advantages
    if dual_clip is not None:
        capped = ratio.clamp(max=dual_clip) * advantages
        is_clipped = (held < plain) | (capped > plain)
        return PolicyLoss(-torch.minimum(capped, held), is_clipped.detach())
    return PolicyLoss(-torch.minimum(plain, held), (held < plain).detach())
