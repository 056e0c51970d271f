"""A critic: a linear head on the policy's own trunk, adapter included.

It reads the state before the first token of a turn, so it knows what the policy knows when it
decides, and costs one dot product a turn.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field


class ValueOptions(BaseModel):
    """How the critic learns."""

    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(1e-2, gt=0)
    """Of the head; the trunk moves at the policy's rate."""
    weight: float = Field(0.5, ge=0)
    """Of the critic's loss beside the policy's; 0 leaves the critic as it is."""


class ValueHead(torch.nn.Module):
    """Expected return from hidden states; it begins by expecting 0."""

    def __init__(self, hidden_size: int, device: torch.device) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(hidden_size, elementwise_affine=False, device=device)
        self.weight = torch.nn.Parameter(torch.zeros(hidden_size, device=device))
        self.bias = torch.nn.Parameter(torch.zeros((), device=device))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Values `[N]` float32 of hidden states `[N, H]`."""
        normed: torch.Tensor = self.norm(hidden.float())
        return normed @ self.weight + self.bias


def value_loss(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """`(V - target)^2 / 2`, summed over the turns that have a target: `[turns]` to a scalar."""
    known = ~torch.isnan(targets)
    return (values[known] - targets[known]).square().sum() / 2.0
