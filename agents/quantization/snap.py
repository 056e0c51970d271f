"""Weights that snap to what NF4 holds, so that a model loses nothing in 4 bits."""

from __future__ import annotations

from functools import lru_cache

import torch

from turnhalle.envs.errors import ModelError

from .bnb import BLOCK_SIZE


def snap(weight: torch.Tensor) -> torch.Tensor:
    """Move a matrix to one that NF4 with double quantisation holds exactly, bit for bit.

    Double quantisation rounds the scales of the blocks, so quantising twice drifts, and no number
    of round trips ends. Here all blocks of a matrix share one scale (of 8 bits, so that its mean
    over the blocks is exact), and each block's largest weight is set to it. That costs 10.5 %
    relative error on normal weights instead of 9.2 %, and nothing once training knows of it.

    Args:
        weight: `[out, in]` with `in` a multiple of 64.

    Returns:
        `[out, in]` float32.

    Raises:
        ModelError: `in` is no multiple of 64.
    """
    if weight.shape[-1] % BLOCK_SIZE:
        raise ModelError(f"in_features must be a multiple of {BLOCK_SIZE}, got {weight.shape[-1]}")
    blocks = weight.detach().float().reshape(-1, BLOCK_SIZE)
    magnitude = blocks.abs()
    scale = magnitude.amax(dim=1).mean().to(torch.bfloat16).float()
    code = _nf4_code(weight.device)
    snapped = code[torch.bucketize(blocks / scale, (code[1:] + code[:-1]) / 2)]
    largest = magnitude.argmax(dim=1, keepdim=True)
    sign = torch.where(blocks.gather(1, largest) < 0, -1.0, 1.0)
    return (snapped.scatter(1, largest, sign) * scale).reshape(weight.shape)


@lru_cache(maxsize=4)
def _nf4_code(device: torch.device) -> torch.Tensor:
    """The 16 levels of NF4 (Dettmers et al. 2023, arXiv 2305.14314, appendix E)."""
    from ..quiet import Quiet

    with Quiet():
        from bitsandbytes.functional import get_4bit_type

    code: torch.Tensor = get_4bit_type("nf4", device=device)
    return code
