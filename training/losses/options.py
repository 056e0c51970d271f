"""Which loss, and its parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.envs.errors import ConfigError

from ..unused import refuse_unused
from .cispo import cispo
from .gspo import gspo
from .kl import KlName
from .normalise import NormaliserName
from .ppo import ppo
from .reinforce import reinforce
from .rows import PolicyLoss, Rows
from .sapo import sapo

_USES = {
    "ppo": {"clip_low", "clip_high", "dual_clip"},
    "gspo": {"clip_low", "clip_high", "level"},
    "cispo": {"clip_high"},
    "sapo": {"temperature_positive", "temperature_negative"},
    "reinforce": set[str](),
}
_CLIPS = {"ppo": (0.2, 0.2), "gspo": (3e-4, 4e-4), "cispo": (0.0, 4.0)}
"""Low and high that the papers use."""


class LossOptions(BaseModel):
    """The objective of an update."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["ppo", "gspo", "cispo", "sapo", "reinforce"] = "ppo"
    clip_low: float | None = Field(None, gt=0, lt=1)
    """None is the loss's own: 0.2 for ppo, 3e-4 for gspo."""
    clip_high: float | None = Field(None, gt=0)
    """None is the loss's own: 0.2 for ppo, 4e-4 for gspo, 4 for cispo."""
    dual_clip: float | None = Field(None, gt=1)
    """PPO: bound of the ratio where the advantage is negative; None is none."""
    level: Literal["sequence", "turn"] = "sequence"
    """GSPO: what has one ratio."""
    temperature_positive: float = Field(1.0, gt=0)
    """SAPO: how fast the gate closes for good tokens,"""
    temperature_negative: float = Field(1.05, gt=0)
    """and for the others."""
    normaliser: NormaliserName = "token"
    constant_tokens: int | None = Field(None, ge=1)
    """The length that the constant normaliser divides by; an episode's usual number of tokens."""
    entropy_bonus: float = Field(0.0, ge=0)
    """Reward a nat of the policy's entropy, a mean over the tokens whatever the normaliser."""

    @property
    def clips(self) -> tuple[float, float]:
        """Low and high in force."""
        low, high = _CLIPS.get(self.name, (0.0, 0.0))
        return (
            low if self.clip_low is None else self.clip_low,
            high if self.clip_high is None else self.clip_high,
        )

    def policy_loss(self, rows: Rows) -> PolicyLoss:
        """The loss of each row."""
        low, high = self.clips
        if self.name == "gspo":
            return gspo(rows, low, high, self.level)
        if self.name == "cispo":
            return cispo(rows, high)
        if self.name == "sapo":
            return sapo(rows, self.temperature_positive, self.temperature_negative)
        if self.name == "reinforce":
            return reinforce(rows)
        return ppo(rows, low, high, self.dual_clip)

    def check(self) -> None:
        """Refuse parameters that cannot work together.

        Raises:
            ConfigError: Says which, and the fix.
        """
        common = {"name", "normaliser", "constant_tokens", "entropy_bonus"}
        refuse_unused("loss", self, common | _USES[self.name], f"loss.name = {self.name!r}")
        if (self.constant_tokens is None) == (self.normaliser == "constant"):
            raise ConfigError(
                f"loss.normaliser = {self.normaliser!r} with loss.constant_tokens = "
                f"{self.constant_tokens}: the constant one needs a length, no other takes one"
            )
        if self.dual_clip is not None and self.dual_clip <= 1 + self.clips[1]:
            raise ConfigError(
                f"loss.dual_clip = {self.dual_clip} must be above 1 + loss.clip_high = "
                f"{1 + self.clips[1]}; 3 is usual"
            )


class KlOptions(BaseModel):
    """A price on leaving the policy that training started from."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(0.0, ge=0)
    """Reward or loss a nat; 0 is no price."""
    estimator: KlName = "k3"
    place: Literal["loss", "reward"] = "loss"
    """In the loss it moves every token by its own estimate; in the reward each turn pays the sum of
    its tokens' estimates, and credit carries it back to earlier turns."""
    is_weighted: bool = True
    """In the loss: weigh the estimate by the ratio, and by the correction for another sampler, so
    that its gradient is the KL's, whatever policy sampled."""

    def check(self) -> None:
        """Refuse parameters that cannot work together.

        Raises:
            ConfigError: Says which, and the fix.
        """
        if not self.weight:
            refuse_unused("kl", self, {"weight"}, "kl.weight = 0")
        if self.place == "reward":
            used = {"weight", "estimator", "place"}
            refuse_unused("kl", self, used, 'kl.place = "reward"')
        elif self.estimator == "k1" and not self.is_weighted:
            raise ConfigError(
                "kl.estimator = 'k1' in the loss has a gradient of mean 0; take k2 or k3, "
                'or set kl.is_weighted = true, or kl.place = "reward"'
            )
