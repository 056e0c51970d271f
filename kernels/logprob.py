"""Log-probs and entropies of given tokens from hidden states and the language-model head.

    logp_i = z_i[t_i] - logsumexp(z_i),   z_i = head(h_i) / temperature

The logits `[N, V]` are never held at once: they are computed in chunks, and again in the backward
pass. This is the plain PyTorch reference; it runs on every device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

Head = Callable[[torch.Tensor], torch.Tensor]

MAX_CHUNK_LOGITS = 2**24
"""Most logits held at once, in elements: 64 MiB of float32 a copy."""


def token_logprobs(
    hidden: torch.Tensor, head: Head, targets: torch.Tensor, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score one target token for each hidden state.

    Args:
        hidden: `[N, H]`.
        head: Maps `[n, H]` to logits `[n, V]`.
        targets: `[N]` token ids.
        temperature: Divides the logits; the temperature that the tokens were sampled at.

    Returns:
        Log-probs `[N]` float32 (differentiable), and entropies `[N]` float32 in nats (a metric,
        without gradient).
    """
    if len(targets) == 0:
        empty = hidden.sum(dim=-1).float()
        return empty, empty.detach()
    with torch.no_grad():
        vocabulary = head(hidden[:1]).shape[-1]
    size = max(1, MAX_CHUNK_LOGITS // vocabulary)
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
    logits = head(hidden).float() / temperature
    total = logits.logsumexp(dim=-1)
    with torch.no_grad():
        entropy = total - (torch.softmax(logits, dim=-1) * logits).sum(dim=-1)
    return logits.gather(1, targets[:, None])[:, 0] - total, entropy
