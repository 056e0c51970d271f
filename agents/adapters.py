"""LoRA adapters through peft: fresh, loaded, saved in peft's own format."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from turnhalle.envs.errors import ModelError

from .lm import LanguageModel


def attach(model: Any, rank: int, alpha: int, folder: Path | None, seed: int) -> Any:
    """Put an adapter on a model, in place: the one saved in `folder`, or a fresh one.

    Raises:
        ModelError: The folder holds no adapter, or one for another model.
    """
    import peft

    if folder is not None:
        if not (folder / "adapter_config.json").is_file():
            raise ModelError(f"{folder} holds no adapter: it has no adapter_config.json")
        try:
            return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the adapter in {folder} does not fit the model: {error}") from error
    # peft draws A from the global generator; ours must neither depend on it nor move it.
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed % 2**63)
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return peft.get_peft_model(model, config)


def save(lm: LanguageModel, folder: Path) -> None:
    """Save the adapter so that `PeftModel.from_pretrained` loads it."""
    assert lm.peft is not None
    # A frozen copy that training compares with stays behind.
    trained = [str(lm.peft.active_adapter)]
    # Asking the model for its state would send layers apart that FSDP2 has cut.
    state = dict(lm.peft.named_parameters())
    lm.peft.save_pretrained(str(folder), selected_adapters=trained, state_dict=state)
