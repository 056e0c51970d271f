"""A model's folder in few bits, that transformers, peft and vLLM load as it is.

The linear layers are quantised, once, from 16 bits; the rest stays in 16 bits. Whoever loads the
folder holds the very same bits: nobody quantises again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnhalle.envs.errors import ModelError, StoreError

from ..models import SETTINGS_FILE, load_config, load_tokenizer, read_settings, resolve_model
from .bnb import Format, bnb_config, must_stay, stored_format

if TYPE_CHECKING:
    import torch


def write_folder(
    name: str, folder: Path, format: Format, kept: Sequence[str] = (), device: str = "cpu"
) -> None:
    """Quantise a model and write it, with its tokenizer and settings.

    Args:
        name: The model: folder, Hugging Face name, or "tiny".
        folder: Must not exist, or be empty.
        format: How linear layers are held.
        kept: Names of layers that stay in 16 bits, beside those that always do.
        device: Where to quantise.

    Raises:
        ModelError: No such model, or one that is quantised already.
        StoreError: The folder is not empty.
    """
    require_empty(folder)
    config = require_unquantized(name)
    from transformers import AutoModelForCausalLM

    from ..quiet import Quiet

    dtype = half_dtype(config)
    skipped = [*must_stay(config, format), *kept]
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with Quiet():
            model = AutoModelForCausalLM.from_pretrained(
                resolve_model(name),
                config=config,
                dtype=dtype,
                device_map={"": device},
                quantization_config=bnb_config(format, dtype, skipped),
            )
            model.save_pretrained(partial)
            load_tokenizer(name).save_pretrained(partial)
        # Sampling is the business of whoever samples; a default of the model's would surprise.
        (partial / "generation_config.json").unlink(missing_ok=True)
        if settings := read_settings(name):
            text = json.dumps(settings, indent=2) + "\n"
            (partial / SETTINGS_FILE).write_text(text, encoding="utf-8")
    except BaseException:  # Ctrl-C too leaves nothing behind
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def require_empty(folder: Path) -> None:
    """Refuse a folder with something in it, or that cannot be made, before anything long starts.

    Raises:
        StoreError: It is not empty, or cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"{error.strerror}: {error.filename}"
        raise StoreError(f"cannot write to {folder} ({why}); give another folder") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} exists and is not empty; give another folder")


def require_unquantized(name: str) -> Any:
    """The config of a model that can be quantised.

    Raises:
        ModelError: No such model, or one that is quantised already.
    """
    config = load_config(name)
    if (stored := stored_format(config, name)) is not None:
        raise ModelError(
            f"{name} is quantised already, in {stored}; a second time would round what is rounded. "
            "Give the model that it was made from"
        )
    return config


def half_dtype(config: Any) -> torch.dtype:
    """The 16 bits of a model: float16 where it was saved so, else bfloat16."""
    import torch

    return torch.float16 if config.dtype == torch.float16 else torch.bfloat16


def weight_bytes(folder: Path) -> int:
    """Size of a folder's weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
