"""Sampling by inverse CDF from counter-based random numbers.

The uniform number behind token `t` of a turn is a hash of (the turn's seed, t) and nothing else,
so a sample does not depend on what else is in the batch, and a resumed run needs no RNG state.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seeds: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) `[B]`, by splitmix64 (Steele, Lea and Flood 2014, figure 16)."""
    z = seeds + (counters + np.uint64(1)) * _INCREMENT
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    drawn: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def sample(
    logits: torch.Tensor, temperatures: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample one token a row.

    Args:
        logits: `[B, V]`, any float type; computed in float32.
        temperatures: `[B]`; 0 takes the most likely token and scores it at temperature 1.
        uniform: `[B]` float64 in [0, 1).

    Returns:
        Token ids `[B]` and their log-probs `[B]` float32 under the distribution sampled from.
    """
    is_greedy = temperatures == 0
    scale = torch.where(is_greedy, torch.ones_like(temperatures), temperatures)
    logprobs = torch.log_softmax(logits.float() / scale[:, None], dim=-1)
    cumulative = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
    # Scaling by the last entry keeps a rounded-down total from sampling past the vocabulary.
    target = uniform * cumulative[:, -1]
    tokens = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
    if is_greedy.any():
        tokens = torch.where(is_greedy, logprobs.argmax(dim=-1), tokens)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def truncate(
    logits: torch.Tensor, temperatures: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave out unlikely tokens (top-p: Holtzman et al. 2019, arXiv 1904.09751).

    Args:
        logits: `[B, V]`.
        temperatures: `[B]`; what is likely is judged at them, at 1 where they are 0.
        top_k: `[B]` how many tokens are kept.
        top_p: `[B]` how much probability is kept; the token that reaches it is kept too.

    Returns:
        Logits with -inf for what is left out `[B, V]` float32, and the kept probability `[B]`.
    """
    scale = torch.where(temperatures == 0, torch.ones_like(temperatures), temperatures)
    probabilities = torch.softmax(logits.float() / scale[:, None], dim=-1)
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    before = ordered.double().cumsum(dim=-1) - ordered
    keep = (rank < top_k[:, None]) & ((before < top_p[:, None]) | (rank == 0))
    kept = torch.zeros_like(keep).scatter(1, tokens, keep)
    mass = (probabilities * kept).sum(dim=-1)
    return logits.float().masked_fill(~kept, -torch.inf), mass
