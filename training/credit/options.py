"""How credit is assigned."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..unused import refuse_unused

EstimatorName = Literal[
    "grpo",
    "dr_grpo",
    "rloo",
    "reinforce",
    "reinforce_pp",
    "reward_to_go",
    "gigpo",
    "tree",
    "ppo",
]

_USES = {
    "reinforce_pp": {"gamma"},
    "reward_to_go": {"gamma"},
    "gigpo": {"gamma", "turn_weight", "is_scaled"},
    "ppo": {"gamma", "gae_lambda", "is_whitened"},
}


class CreditOptions(BaseModel):
    """Which estimator, and its parameters."""

    model_config = ConfigDict(extra="forbid")

    estimator: EstimatorName = "grpo"
    gamma: float = Field(1.0, ge=0, le=1)
    """Discount of a turn; 0 leaves each turn its own reward."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """PPO: 1 trusts the returns, 0 the critic."""
    is_whitened: bool = True
    """PPO: bring the advantages of a step to mean 0 and deviation 1."""
    turn_weight: float = Field(1.0, ge=0)
    """GiGPO: weight of the turn's advantage beside the episode's."""
    is_scaled: bool = True
    """GiGPO: divide by the standard deviation (else subtract the mean only)."""

    @property
    def needs_values(self) -> bool:
        """Is there a critic?"""
        return self.estimator == "ppo"

    @property
    def is_relative(self) -> bool:
        """Is credit relative to the other rollouts of the task?"""
        return self.estimator not in ("reinforce", "reinforce_pp", "ppo")

    def check(self) -> None:
        """Refuse parameters that the estimator has not.

        Raises:
            ConfigError: Says which.
        """
        used = _USES.get(self.estimator, set()) | {"estimator"}
        refuse_unused("credit", self, used, f"credit.estimator = {self.estimator!r}")
