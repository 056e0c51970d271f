"""What the loss of an update is divided by: the same whatever the update is cut into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

NormaliserName = Literal["token", "sequence", "constant"]


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Turns losses of rows into their part of an update's loss.

    Everything is counted over the whole update (a minibatch: one optimizer step), never over a part
    of it; so micro-batches, packing, padding and the order of rows change nothing.
    """

    name: NormaliserName
    """token: mean over tokens, long episodes count for more (DAPO, arXiv 2503.14476, equation 12).
    sequence: mean over episodes of their mean over tokens (GRPO, arXiv 2402.03300, equation 3).
    constant: sum over tokens by a fixed length, mean over episodes (arXiv 2503.20783)."""
    num_rows: int
    """Tokens of the update."""
    num_episodes: int
    """Episodes of the update."""
    constant_tokens: int | None = None
    """The fixed length."""

    def total(self, loss: torch.Tensor, episode_rows: torch.Tensor) -> torch.Tensor:
        """The share of these rows in the update's loss, a scalar.

        Args:
            loss: `[M]`.
            episode_rows: `[M]` how many rows of the update are of the row's episode.
        """
        if self.name == "token":
            return loss.sum() / self.num_rows
        if self.name == "sequence":
            return (loss / episode_rows).sum() / self.num_episodes
        assert self.constant_tokens is not None
        return loss.sum() / (self.num_episodes * self.constant_tokens)
