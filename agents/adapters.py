"""LoRA adapters through peft: fresh, loaded, copied, saved in peft's own format."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from turnhalle.envs.errors import ModelError
from turnhalle.kernels.patch import apply

from .lm import LanguageModel


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The weights of an adapter at some step."""

    version: int
    """The step that made them; 0 is the start."""
    tensors: Mapping[str, torch.Tensor]
    """By the trainer's names."""

    @classmethod
    def of(cls, lm: LanguageModel, version: int) -> Snapshot:
        """What the model has now, copied: training goes on."""
        return cls(version, {name: p.detach().clone() for name, p in lm.trainable().items()})

    @contextmanager
    def in_force(self, lm: LanguageModel) -> Iterator[None]:
        """Within the block the model has these weights."""
        now = Snapshot.of(lm, self.version)
        _put(lm, self.tensors)
        try:
            yield
        finally:
            _put(lm, now.tensors)


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


def twin(lm: LanguageModel) -> LanguageModel:
    """A model of its own on the same base: only the adapter is there twice.

    One may sample in a thread while the other is trained.
    """
    shared: dict[int, Any] = {}
    for parameter in lm.model.parameters():
        if not parameter.requires_grad:
            shared[id(parameter)] = parameter
            # bitsandbytes' layers point to it too.
            if (state := getattr(parameter, "quant_state", None)) is not None:
                shared[id(state)] = state
    model, peft = deepcopy((lm.model, lm.peft), shared)
    patched = [module for module in model.modules() if "forward" in vars(module)]
    for module in patched:  # kernels hold the layers that they were made for
        del module.forward
    if patched:
        apply(model, check=False)
    return LanguageModel(model, peft)


def _put(lm: LanguageModel, tensors: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in lm.trainable().items():
            parameter.copy_(tensors[name])
