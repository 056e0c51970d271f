"""What makes a loaded model faster or smaller: checkpoints of activations, kernels, compilation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from turnhalle.envs.errors import ModelError
from turnhalle.kernels.compiled import compile_layers
from turnhalle.kernels.patch import ARCHITECTURES, apply

if TYPE_CHECKING:
    from .models import ModelOptions


def prepare(model: Any, options: ModelOptions) -> list[str]:
    """Checkpoints of activations, then kernels; adapters are on the model already.

    Returns:
        What was done, for people.

    Raises:
        ModelError: The kernels cannot be put in; says why, and how to go on without.
    """
    if options.gradient_checkpointing:
        _checkpoint_gradients(model)
    if not _wants_kernels(model, options.kernels):
        return []
    try:
        return [f"kernels: {apply(model)}"]
    except (ValueError, RuntimeError) as error:
        raise ModelError(f'{error}. Go on without: --set model.kernels="off"') from error


def compile_if(model: Any, options: ModelOptions) -> list[str]:
    """Compilation, after the last look at the model: the first call compiles.

    Returns:
        What was done, for people.

    Raises:
        ModelError: It cannot be done; says why, and how to go on without.
    """
    if not options.compile:
        return []
    try:
        return [f"compiled: {compile_layers(model)}"]
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{error}. Go on without: --set model.compile=false") from error


def _wants_kernels(model: Any, choice: str) -> bool:
    if choice == "auto":
        return model.config.get_text_config().model_type in ARCHITECTURES
    return choice == "on"


def _checkpoint_gradients(model: Any) -> None:
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    # transformers recomputes in training mode only; dropout stays off by its rate.
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
