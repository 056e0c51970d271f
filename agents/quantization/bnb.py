"""4-bit and 8-bit weights through bitsandbytes, kept exact: its formats, and what it gets wrong.

bitsandbytes 0.50 has three silent bugs on the CPU, each with a regression test here:
(1) it dequantises wrongly where `in_features` is no multiple of 64, so such layers stay as they
are, and a folder that holds one in 4 bits is refused;
(2) a forward pass in eval mode repacks the weights for AVX512-BF16 and changes the log-probs;
(3) the backward pass after that has wrong gradients. `guard_cpu` switches the repacking off.

In int8 its default depends on the batch: a column of activations is an outlier if any row says so.
Here the threshold is 0, so that a row's result is its own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch

from turnhalle.envs.errors import ModelError

Format = Literal["nf4", "fp4", "int8"]
FourBit = Literal["nf4", "fp4"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""nf4 and fp4 with double quantisation; int8 rounds activations too (LLM.int8)."""

BLOCK_SIZE = 64
"""4-bit weights that share a scale."""

_REPACKS = "support_avx512bf16_for_cpu"

_log = logging.getLogger("turnhalle")


def bnb_config(format: Format, dtype: torch.dtype, skipped: Sequence[str] = ()) -> Any:
    """The transformers quantisation config of a format.

    Args:
        format: How linear layers are held.
        dtype: What is computed in.
        skipped: Names of layers that stay as they are; the head's must be among them where there
            are any, for naming one switches transformers' own list off.
    """
    from transformers import BitsAndBytesConfig

    names = list(skipped) or None
    if format == "int8":
        return BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_threshold=0.0, llm_int8_skip_modules=names
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=format,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=names,
    )


def held_in(config: Any, precision: str, name: str) -> str:
    """What a precision comes to for a model: "auto" is what its folder holds, or nf4.

    Raises:
        ModelError: The folder is quantised by something else than bitsandbytes, or otherwise than
            asked for.
    """
    stored = stored_format(config, name)
    if stored is None:
        return "nf4" if precision == "auto" else precision
    if precision not in ("auto", stored):
        raise ModelError(
            f"{name} is quantised already, in {stored}; it cannot be held in {precision}. "
            'Leave model.precision at "auto"'
        )
    return stored


def stored_format(config: Any, name: str) -> Format | None:
    """How the weights in a model's folder are quantised; None where they are not.

    Raises:
        ModelError: By something else than bitsandbytes.
    """
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    if stored.get("quant_method") != "bitsandbytes":
        raise ModelError(
            f"{name} is quantised by {stored.get('quant_method')!r}; Turnhalle reads bitsandbytes' "
            "formats. Give the model that it was made from"
        )
    return "int8" if stored.get("load_in_8bit") else stored["bnb_4bit_quant_type"]


def quantize_on_load(
    config: Any, precision: str, dtype: torch.dtype, device: torch.device
) -> dict[str, Any]:
    """What `from_pretrained` must be told; nothing where nothing is quantised, or the folder is.

    A folder that is quantised computes in `dtype` from now on, whatever it was written with.
    """
    if precision not in FORMATS:
        return {}
    if hasattr(config, "quantization_config"):
        config.quantization_config["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
        return {}
    head, *unfit = must_stay(config, precision)
    skipped = [head, *unfit] if unfit and device.type == "cpu" else []
    if skipped:
        _log.warning(
            "%d linear layers stay in 32 bits: their in_features is no multiple of %d, "
            "which bitsandbytes dequantises wrongly on the CPU",
            len(unfit),
            BLOCK_SIZE,
        )
    return {"quantization_config": bnb_config(precision, dtype, skipped)}


def must_stay(config: Any, format: Format) -> list[str]:
    """Names of the layers that no folder holds in this format: the head, and what bug 1 would hit.

    A folder is for any device, so what a CPU gets wrong stays unquantised for all.
    """
    from accelerate.big_modeling import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    names = [name for name, module in model.named_modules() if module is head]
    if format != "int8":
        names += [n for n, layer in linears(model).items() if layer.in_features % BLOCK_SIZE]
    return names


def linears(model: Any) -> dict[str, torch.nn.Linear]:
    """The layers that quantisation is about: all linear ones but the head, by name."""
    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }


def dequantize_in(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Let 4-bit layers dequantise in the dtype that is computed in.

    A folder remembers the 16 bits that it was made from. bitsandbytes rounds to them where it
    dequantises (the backward pass, what an engine is given), and not in the forward pass.
    """
    for module in model.modules():
        if hasattr(module, _REPACKS):
            weight: Any = module.weight
            weight.quant_state.dtype = dtype


def guard_cpu(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from what it does wrong on the CPU (all three bugs above).

    Raises:
        ModelError: A 4-bit layer is one that it dequantises wrongly.
    """
    for name, module in model.named_modules():
        if not hasattr(module, _REPACKS):
            continue
        setattr(module, _REPACKS, False)
        weight = module.weight
        if weight.device.type == "cpu" and module.in_features % weight.blocksize:
            raise ModelError(
                f"{name} is held in 4 bits with in_features {module.in_features}, no multiple of "
                f"{weight.blocksize}: bitsandbytes dequantises it wrongly on the CPU. Use CUDA, or "
                "make the folder by `turnhalle quantize`, which keeps such layers in 16 bits"
            )
