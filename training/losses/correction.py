"""Weights for tokens that were sampled by another policy than the one that is trained.

The engine may compute other log-probs than the trainer (16 bits, other kernels), run on older
weights, or leave tokens out (top-k, top-p). w = pi_old / pi_sampler makes up for it; it is a
constant of the update.

    token        w of the token                      biased a little, low variance
    turn         product over the turn's tokens
    geometric    geometric mean over the episode     comparable across lengths; for masking
    sequence     product over the episode            unbiased, its variance grows with length

Both log-probs have the sampling temperature. Among the tokens that top-k and top-p keep, of mass m
together, one is sampled with pi / m: its weight has a factor m. With it the expected gradient is
the policy's own over what was kept; of what was left out nothing is known, and it counts as if it
were worth the baseline. With full sequence weights that is exact.

Truncated importance weights: Ionides 2008; masking: IcePop (Ring-1T, arXiv 2510.18855).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .rows import clamp_log, mean_by, sum_by

Level = Literal["token", "turn", "geometric", "sequence"]


class CorrectionOptions(BaseModel):
    """How tokens of another policy are weighed."""

    model_config = ConfigDict(extra="forbid")

    level: Level | None = None
    """None takes the engine's log-probs for those before the update; a token weighs what top-k and
    top-p kept, which is 1 without them."""
    mode: Literal["truncate", "mask"] = "truncate"
    """Bring weights outside of the bounds to the bound, or leave such tokens out."""
    low: float = Field(0.0, ge=0)
    high: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> CorrectionOptions:
        if not self.low <= 1 <= self.high:
            raise ValueError(
                f"low ({self.low}) must be at most 1 and high ({self.high}) at least 1: "
                "tokens of the policy itself have weight 1"
            )
        return self


def correction_weights(
    log_ratio: torch.Tensor,
    episode: torch.Tensor,
    turn: torch.Tensor,
    options: CorrectionOptions,
) -> torch.Tensor:
    """Weights `[M]` of rows whose log pi_old / pi_sampler, kept mass included, is `log_ratio`."""
    if options.level == "turn":
        log_ratio = sum_by(log_ratio, turn)
    elif options.level == "sequence":
        log_ratio = sum_by(log_ratio, episode)
    elif options.level == "geometric":
        log_ratio = mean_by(log_ratio, episode)
    ratio = clamp_log(log_ratio).exp()
    if options.mode == "truncate":
        return ratio.clamp(options.low, options.high)
    return ratio.masked_fill((ratio < options.low) | (ratio > options.high), 0.0)


def truncation_metrics(kept_mass: torch.Tensor) -> dict[str, float]:
    """What top-k and top-p left out, of what they kept `[M]`; nothing where they are off.

    `sampler/kept_mass` is its mean over the tokens.
    """
    if bool((kept_mass == 1.0).all()):
        return {}
    return {
        "sampler/kept_mass": float(kept_mass.mean()),
        "sampler/ess": effective_share(kept_mass),
    }


def effective_share(weights: torch.Tensor) -> float:
    """The effective sample size of weights `[M]` as a share of M: (sum w)^2 / (M sum w^2)."""
    squares = float(weights.square().sum())
    return float(weights.sum()) ** 2 / (len(weights) * squares) if squares else 0.0


def correction_metrics(log_ratio: torch.Tensor, weights: torch.Tensor) -> dict[str, float]:
    """How far sampler and trainer are apart.

    `sampler/kl` is the k3 estimate of KL(sampler || trainer) in nats a token; `sampler/ess` the
    effective sample size; `sampler/masked` the share of tokens without weight.

    Args:
        log_ratio: `[M]` log pi_old / pi_sampler, both before tokens were left out.
        weights: `[M]`, for what was left out too.
    """
    clamped = clamp_log(log_ratio)
    return {
        "sampler/kl": float((clamped.exp() - 1.0 - clamped).mean()),
        "sampler/ess": effective_share(weights),
        "sampler/masked": float((weights == 0.0).float().mean()),
    }
