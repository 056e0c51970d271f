"""Language-model heads, and log-probs through a head of any kind by plain autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from .accumulate import accumulator

Head = Callable[[torch.Tensor], torch.Tensor]
"""Maps hidden states `[..., H]` to logits `[..., V]`."""


class LinearHead:
    """logits = softcap * tanh((hidden W^T + b) / softcap), or without softcap the linear part."""

    def __init__(self, module: torch.nn.Module, softcap: float | None = None) -> None:
        self.module = module
        self.softcap = softcap or None

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `[..., V]` of hidden states `[..., H]`."""
        logits: torch.Tensor = self.module(hidden)
        if self.softcap:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    @property
    def is_frozen(self) -> bool:
        """Whether this is a plain matrix that does not learn.

        A subclass of `torch.nn.Linear` (LoRA, 4-bit, a parametrisation), hooks, a replaced
        `forward`, or a weight that learns all say no: such a head is called, never bypassed.
        """
        module = self.module
        return (
            type(module) is torch.nn.Linear
            and module.weight.is_floating_point()
            and not any(parameter.requires_grad for parameter in module.parameters())
            and "forward" not in vars(module)
            and not module._forward_hooks
            and not module._forward_pre_hooks
        )

    @property
    def weight(self) -> torch.Tensor:
        """`[V, H]`; of a frozen head only."""
        assert isinstance(self.module, torch.nn.Linear)
        return self.module.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """`[V]`, if there is one; of a frozen head only."""
        assert isinstance(self.module, torch.nn.Linear)
        return self.module.bias


def checkpointed(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, temperature: float, max_logits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs `[N]` and entropies `[N]` through any head, gradients for whatever it learns.

    At most `max_logits` logits are held at once; where there are more, they are computed in chunks,
    and again in the backward pass.
    """
    with torch.no_grad():
        vocabulary = head(hidden[:1]).shape[-1]
    size = max(1, max_logits // vocabulary)
    if len(targets) <= size:
        return _chunk(hidden, targets, head, temperature)
    chunks = [
        checkpoint(_chunk, h, t, head, temperature, use_reentrant=False)
        for h, t in zip(hidden.split(size), targets.split(size), strict=True)
    ]
    logprobs, entropies = zip(*chunks, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk(
    hidden: torch.Tensor, targets: torch.Tensor, head: Head, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = head(hidden).to(accumulator(hidden)) / temperature
    total = logits.logsumexp(dim=-1)
    with torch.no_grad():
        entropy = total - (torch.softmax(logits, dim=-1) * logits).sum(dim=-1)
    return logits.gather(1, targets[:, None])[:, 0] - total, entropy
