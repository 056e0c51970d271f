"""What vLLM's worker learns from us: to take an adapter from memory.

vLLM loads adapters from folders only; this class is mixed into its worker by
`worker_extension_cls`, so it must import nothing of ours that imports vLLM.
"""

from __future__ import annotations

from typing import Any


class AdapterReceiver:
    """Methods that `collective_rpc` calls in vLLM's worker; `self` is the worker."""

    model_runner: Any
    vllm_config: Any

    def receive_adapter(self, number: int, blob: bytes, config: dict[str, Any]) -> None:
        """Hold an adapter under a number, ready for requests.

        Args:
            number: Its id in vLLM, 1 or more, never used before.
            blob: Its tensors as safetensors; tensors themselves do not survive the way to another
                process.
            config: peft's configuration.

        Raises:
            ValueError: vLLM cannot serve such an adapter.
        """
        from safetensors.torch import load
        from vllm.lora.lora_model import LoRAModel
        from vllm.lora.peft_helper import PEFTHelper

        helper = PEFTHelper.from_dict(config)
        helper.validate_legal(self.vllm_config.lora_config)
        manager = self.model_runner.lora_manager._adapter_manager
        mapper = getattr(manager.model, "hf_to_vllm_mapper", None)
        adapter = LoRAModel.from_lora_tensors(
            number,
            load(blob),
            helper,
            device="cpu",
            dtype=self.vllm_config.lora_config.lora_dtype,
            weights_mapper=None if mapper is None else mapper.get_rename_mapper(),
        )
        _check(adapter, manager, helper.r)
        manager.add_adapter(adapter)
        manager.activate_adapter(number)


def _check(adapter: Any, manager: Any, rank: int) -> None:
    """What vLLM lets pass in silence: it leaves out what it has no layer for.

    Raises:
        ValueError: Says which layer.
    """
    packed = (name for names in manager.packed_modules.values() for name in names)
    known = {*manager.modules, *packed}
    if unknown := sorted(adapter.loras.keys() - known):
        raise ValueError(f"the served model has no layer {unknown[0]} that takes an adapter")
    for name, layer in adapter.loras.items():
        if layer.lora_a is None or layer.lora_b is None:
            raise ValueError(f"layer {name} has only half an adapter")
        if not layer.lora_a.shape[0] == layer.lora_b.shape[1] == rank:
            raise ValueError(f"layer {name} is not of rank {rank}")
