"""The base as a plain checkpoint, with the exact values that the trainer computes with."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch

from ..lm import LanguageModel

_MAX_SHARD_BYTES = 4 * 2**30


def write_base(lm: LanguageModel, folder: Path) -> None:
    """Write the model without its adapter; 4-bit weights as what they stand for.

    Nothing is merged: the adapter is left out, and travels apart.

    Args:
        lm: The trainer's model.
        folder: Gets `config.json` and safetensors, in the dtype that the model computes in.
    """
    config = copy.deepcopy(lm.model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = lm.model.dtype
    config.save_pretrained(folder)
    _write_shards(lm, folder)


def _write_shards(lm: LanguageModel, folder: Path) -> None:
    from safetensors.torch import save_file

    shard: dict[str, torch.Tensor] = {}
    size = number = 0
    for name, weight in _base_weights(lm):
        if shard and size + weight.nbytes > _MAX_SHARD_BYTES:
            save_file(shard, folder / f"model-{number:05d}.safetensors")
            shard, size, number = {}, 0, number + 1
        shard[name] = weight
        size += weight.nbytes
    save_file(shard, folder / f"model-{number:05d}.safetensors")


def _base_weights(lm: LanguageModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of the base's parameters; one that is tied comes once."""
    for name, parameter in lm.model.named_parameters():
        if ".lora_" not in name:
            value = _plain(parameter).detach().to(lm.model.dtype)
            yield name.replace(".base_layer.", "."), value.cpu().contiguous()


def _plain(parameter: torch.Tensor) -> torch.Tensor:
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return parameter
    from bitsandbytes.functional import dequantize_4bit

    value: torch.Tensor = dequantize_4bit(parameter.data, state)
    return value
