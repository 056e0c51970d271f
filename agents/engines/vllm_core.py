"""One vLLM that samples: turns in, sampled turns out, one adapter in force.

In this process it is vLLM's `LLMEngine`, stepped by hand; in a process of its own, `AsyncLLM`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from turnhalle.envs.errors import EngineError

from .base import Request
from .vllm_serving import Serving, starting


@dataclass(slots=True)
class Sampled:
    """A turn that vLLM finished, or refused."""

    key: str
    token_ids: list[int]
    logprobs: list[float]
    is_stopped: bool
    """By a stop token, not by the end of its room."""
    error: str | None = None
    """Why vLLM refused it."""


class VllmCore(ABC):
    """What both ways to run vLLM share."""

    def __init__(self, serving: Serving) -> None:
        """Start vLLM; seconds, most of them imports.

        Raises:
            EngineError: vLLM does not start; says why.
        """
        self._serving = serving
        self._adapter: Any = None
        self._num_adapters = 0
        with starting(serving):
            self._engine = self._start()

    @abstractmethod
    def add(self, key: str, request: Request) -> None:
        """Queue a turn.

        Raises:
            Exception: Whatever vLLM finds wrong with it, where it says so at once.
        """

    @abstractmethod
    def step(self) -> list[Sampled]:
        """Let turns advance; those that finished.

        Raises:
            Exception: Whatever vLLM died of.
        """

    @abstractmethod
    def abort(self, keys: list[str]) -> None:
        """Forget turns; no output of theirs will come."""

    @abstractmethod
    def abort_all(self) -> None:
        """Forget every turn, those too that an exception left half done."""

    @abstractmethod
    def close(self) -> None:
        """Stop vLLM and free its memory."""

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
        self._call("collective_rpc", "receive_adapter", args=arguments)
        # A request that names an adapter which is not there kills the engine.
        if number not in self._call("list_loras"):
            raise RuntimeError(f"vLLM dropped adapter {name}")
        if self._adapter is not None:
            self._call("remove_lora", self._adapter.lora_int_id)
        self._adapter = LoRARequest(name, number, f"memory://{name}")

    def drop_prefixes(self) -> None:
        """Forget all cached keys and values.

        Raises:
            EngineError: Turns are running.
        """
        if not self._call("reset_prefix_cache"):
            raise EngineError("vLLM keeps its prefix cache while turns run")

    def sleep(self) -> None:
        """Give the GPU's memory to the trainer: weights go to the host, keys and values go away."""
        self._call("sleep", level=1)

    def wake(self) -> None:
        """Take the GPU's memory back."""
        self._call("wake_up")

    @abstractmethod
    def _start(self) -> Any:
        """Start vLLM's engine."""

    @abstractmethod
    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of vLLM's engine, and wait for what it returns."""


class InProcessCore(VllmCore):
    """`LLMEngine` in this process."""

    def add(self, key: str, request: Request) -> None:
        """Queue a turn."""
        prompt: Any = {"prompt_token_ids": request.token_ids}
        params = self._serving.sampling(request)
        self._engine.add_request(key, prompt, params, lora_request=self._adapter)

    def step(self) -> list[Sampled]:
        """Advance all turns by a token; those that finished."""
        return [as_sampled(output) for output in self._engine.step() if output.finished]

    def abort(self, keys: list[str]) -> None:
        """Forget turns."""
        self._engine.abort_request(keys)

    def abort_all(self) -> None:
        """Forget every turn."""
        self._engine.abort_request(
            list(self._engine.output_processor.request_states), internal=True
        )

    def close(self) -> None:
        """Stop vLLM and free its memory."""
        self._engine.engine_core.shutdown()
        del self._engine

    def _start(self) -> Any:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        return LLMEngine.from_engine_args(EngineArgs(**self._serving.arguments()))

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._engine, method)(*args, **kwargs)


def as_sampled(output: Any) -> Sampled:
    """A finished `RequestOutput` of vLLM."""
    (sampled,) = output.outputs
    return Sampled(
        output.request_id,
        list(sampled.token_ids),
        list(sampled.logprobs.logprobs),
        sampled.finish_reason == "stop",
    )
