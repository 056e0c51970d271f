"""What engines of other makes read: the base as a plain checkpoint, adapters in peft's format."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..lm import LanguageModel

_MAX_SHARD_BYTES = 4 * 2**30


def write_base(lm: LanguageModel, folder: Path, *, in_4_bits: bool = False) -> None:
    """Write the model without its adapter; 4-bit weights as what they stand for, or as they are.

    Nothing is merged: the adapter is left out, and travels apart.

    Args:
        lm: The trainer's model.
        folder: Gets `config.json` and safetensors, in the dtype that the model computes in.
        in_4_bits: Write the 4-bit weights in bitsandbytes' own form, bit for bit: whoever quantises
            the checkpoint again may come to others (from other dtypes; measured: 1.1 nats).
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(lm.model.config)
    if hasattr(config, "quantization_config") and not in_4_bits:
        del config.quantization_config
    config.dtype = lm.model.dtype
    config.save_pretrained(folder)
    _write_shards(_packed_weights(lm) if in_4_bits else _base_weights(lm), folder)


def adapter_config(lm: LanguageModel) -> dict[str, Any] | None:
    """Peft's configuration as plain JSON, which survives the way to another process."""
    if lm.peft is None:
        return None
    config = lm.peft.peft_config[lm.peft.active_adapter].to_dict()
    plain: dict[str, Any] = json.loads(json.dumps(config, default=_as_json))
    return plain


def adapter_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """An adapter's parameters, given by the trainer's names, as safetensors with peft's."""
    from safetensors.torch import save

    return save({_peft_name(name): t.detach().cpu().contiguous() for name, t in tensors.items()})


def _as_json(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def _peft_name(name: str) -> str:
    """Name of an adapter's parameter as in peft's files, which leave the adapter's name out."""
    return "base_model.model." + name.replace(".lora_A.default.", ".lora_A.").replace(
        ".lora_B.default.", ".lora_B."
    )


def _write_shards(weights: Iterable[tuple[str, torch.Tensor]], folder: Path) -> None:
    from safetensors.torch import save_file

    shard: dict[str, torch.Tensor] = {}
    size = number = 0
    for name, weight in weights:
        if shard and size + weight.nbytes > _MAX_SHARD_BYTES:
            save_file(shard, folder / f"model-{number:05d}.safetensors")
            shard, size, number = {}, 0, number + 1
        shard[name] = weight
        size += weight.nbytes
    save_file(shard, folder / f"model-{number:05d}.safetensors")


def _base_weights(lm: LanguageModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and values of the base's parameters; one that is tied comes once."""
    for name, parameter in _parameters(lm):
        yield name, plain_weight(parameter).detach().to(lm.model.dtype).cpu().contiguous()


def _packed_weights(lm: LanguageModel) -> Iterator[tuple[str, torch.Tensor]]:
    """The same, where 4-bit weights come as they are held, with what is needed to read them."""
    for name, parameter in _parameters(lm):
        state = getattr(parameter, "quant_state", None)
        value = parameter.detach() if state is not None else parameter.detach().to(lm.model.dtype)
        yield name, value.cpu().contiguous()
        for part, tensor in state.as_dict(packed=True).items() if state is not None else ():
            yield f"{name}.{part}", tensor.cpu().contiguous()


def _parameters(lm: LanguageModel) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in lm.model.named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter


def plain_weight(parameter: torch.Tensor) -> torch.Tensor:
    """A base weight in floats: of a 4-bit one what it stands for."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return parameter
    from bitsandbytes.functional import dequantize_4bit

    value: torch.Tensor = dequantize_4bit(parameter.data, state)
    return value
