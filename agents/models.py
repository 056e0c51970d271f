"""Loading models: any causal transformers model by name or folder, in 4, 16 or 32 bits, with LoRA.

Everything that can be wrong with a model is found before its weights are read.
"""

from __future__ import annotations

import importlib.util
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.envs.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from .lm import LanguageModel

SETTINGS_FILE = "turnhalle.json"
"""In a model's folder: how the model is used to be spoken to (`ChatOptions`)."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


Precision = Literal["auto", "nf4", "fp4", "int8", "fp32", "bf16", "fp16"]


class ModelOptions(BaseModel):
    """Which model, and how it is held."""

    model_config = ConfigDict(extra="forbid")

    name: str = "tiny"
    """Folder, Hugging Face name, or "tiny", the built-in policy."""
    precision: Precision = "auto"
    """How the frozen base is held: "auto" (as its folder says where that is quantised, else nf4),
    nf4 or fp4 (4 bits, with double quantisation), int8, fp32, bf16 or fp16."""
    device: str = "auto"
    """"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:0"."""
    lora_rank: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    """The adapter's update is scaled by lora_alpha / lora_rank."""
    gradient_checkpointing: bool = False
    """Trade time for memory in the backward pass."""
    kernels: Literal["auto", "on", "off"] = "auto"
    """Replace layers by the ops of `turnhalle.kernels`; auto does in architectures known there."""
    compile: bool = False
    """Let `torch.compile` run what the kernels leave of the layers, where the model learns; the
    first update then takes a minute or more."""


def load_model(
    options: ModelOptions, *, adapter: Path | None = None, lora_seed: int | None = None
) -> LanguageModel:
    """Load a model, with a saved adapter, a fresh one, or none.

    Args:
        options: Which model and how.
        adapter: Folder of a saved adapter to put on.
        lora_seed: Seed of a fresh adapter (which changes nothing until it is trained).

    Raises:
        ConfigError: A package is missing, or CUDA was asked for and there is none.
        ModelError: No such model, or one that cannot be used; says why.
    """
    require_packages(options.precision)
    folder = resolve_model(options.name)
    device = _device(options.device)
    config = load_config(options.name)
    from .acceleration import compile_if, prepare
    from .lm import LanguageModel
    from .quantization.bnb import dequantize_in, guard_cpu, held_in, quantize_on_load
    from .quiet import Quiet

    precision = held_in(config, options.precision, options.name)
    dtype = _dtype(precision, device)
    kwargs: dict[str, Any] = {"dtype": dtype, "device_map": {"": str(device)}}
    kwargs |= quantize_on_load(config, precision, dtype, device)
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    with Quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(folder, config=config, **kwargs)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"cannot read the weights of {options.name}: {_first_line(error)}"
            ) from error
    model.requires_grad_(False)
    guard_cpu(model)
    dequantize_in(model, dtype)
    peft = None
    if adapter is not None or lora_seed is not None:
        from .adapters import attach

        peft = attach(model, options.lora_rank, options.lora_alpha, adapter, lora_seed or 0)
    # No dropout ever: the policy that is trained is the policy that sampled.
    model.eval()
    notes = prepare(model, options)
    lm = LanguageModel(model, peft)
    lm.check_head()
    lm.notes = notes + compile_if(model, options)
    return lm


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, after a look whether the two belong together.

    Raises:
        ModelError: No such model, no tokenizer, or one of another model.
    """
    folder = resolve_model(name)
    config = load_config(name)
    _require_tokenizer(folder, name)
    from transformers import AutoTokenizer

    from .quiet import Quiet

    with Quiet():
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise ModelError(
                f"cannot read the tokenizer of {name}: {_first_line(error)}"
            ) from error
    vocabulary = config.get_text_config().vocab_size
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"{name}: the tokenizer knows {len(tokenizer)} tokens, the model {vocabulary}; "
            "they do not belong together"
        )
    return tokenizer


def resolve_model(name: str) -> str:
    """The folder of a model, or the name to ask the Hugging Face hub for.

    Raises:
        ModelError: The name is a path that is no model folder.
    """
    if name == "tiny":
        return str(files("turnhalle.tiny"))
    path = Path(name)
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise ModelError(f"{name} is an adapter: give its base, and --set start_from={name}")
        if not (path / "config.json").is_file():
            raise ModelError(f"{name} is no model folder: it has no config.json")
        return str(path)
    # A misspelt run must not send anybody to the hub.
    is_path = name.startswith((".", "/", "~", "runs/")) or path.exists() or path.parent.is_dir()
    if is_path or name.count("/") != 1:
        raise ModelError(
            f"no model {name!r}: give a folder, a Hugging Face name (owner/name), or 'tiny'"
        )
    return name


def context_limit(name: str) -> int:
    """Most positions that a model knows, read without its weights.

    Raises:
        ModelError: No such model.
    """
    config = load_config(name)
    return int(config.get_text_config().max_position_embeddings)


def load_config(name: str) -> Any:
    """The transformers config of a causal language model.

    Raises:
        ModelError: No such model, or one of another kind.
    """
    folder = resolve_model(name)
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from .quiet import Quiet

    with Quiet():
        try:
            config = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the model {name!r}: {_first_line(error)}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"{name} is a {config.model_type!r} model, no causal language model")
    return config


def held_precision(options: ModelOptions) -> str:
    """How the base will be held: what "auto" comes to; read without the weights.

    Raises:
        ModelError: No such model, or one that is quantised otherwise than asked for.
    """
    from .quantization.bnb import held_in

    config = load_config(options.name)
    return held_in(config, options.precision, options.name)


def read_settings(name: str) -> dict[str, Any]:
    """What a model's folder says of how to speak to it; empty where it says nothing."""
    path = Path(resolve_model(name)) / SETTINGS_FILE
    if not path.is_file():
        return {}
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings


def require_packages(precision: Precision = "fp32") -> None:
    """Refuse before anything long starts where a package is missing.

    Raises:
        ConfigError: Says which, and how to install it.
    """
    is_quantized = precision not in ("fp32", "bf16", "fp16")
    needed = ["torch", "transformers", "peft"] + ["bitsandbytes"] * is_quantized
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        extra = ""
        if missing == ["bitsandbytes"]:
            extra = ' Or hold the base in 32 bits: --set model.precision="fp32".'
        raise ConfigError(
            f"missing package{'s' * (len(missing) > 1)}: {', '.join(missing)}. "
            f'Install with: pip install "turnhalle[train]".{extra}'
        )


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; give auto, cpu or cuda")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("model.device is cuda, but PyTorch sees no CUDA device; give cpu")
        # Of several processes each has a GPU of its own as the current one.
        index = torch.cuda.current_device() if device.index is None else device.index
        device = torch.device("cuda", index)
    return device


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    import torch

    by_name = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    on_device = torch.float32 if device.type == "cpu" else torch.bfloat16
    return by_name.get(precision, on_device)


def _require_tokenizer(folder: str, name: str) -> None:
    """A folder without tokenizer files: transformers would make an empty one up."""
    path = Path(folder)
    if path.is_dir() and not any((path / file).is_file() for file in _TOKENIZER_FILES):
        raise ModelError(
            f"cannot read the tokenizer of {name}: the folder has none of "
            f"{', '.join(_TOKENIZER_FILES)}"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
