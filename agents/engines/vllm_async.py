"""vLLM's `AsyncLLM`: the engine in a process of its own, and one coroutine a turn in a thread here.

The engine steps on while this process plays environments or trains. It can die alone, and it can
be there several times (`data_parallel`): an episode then stays with one, which has its keys and
values.
"""

from __future__ import annotations

import queue
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from turnhalle.envs.errors import EngineError

from ..loop_thread import LoopThread
from .base import PATIENCE_S, Request
from .vllm_core import Sampled, VllmCore, as_sampled
from .vllm_serving import Serving

_ANSWER_S = 600.0
"""Longest wait for an engine that answers to neither call nor death."""


class OwnProcessCore(VllmCore):
    """`AsyncLLM`, in an event loop of its own."""

    def __init__(self, serving: Serving) -> None:
        """Start vLLM's process.

        Raises:
            EngineError: vLLM does not start; says why.
        """
        self._loop = LoopThread()
        self._tasks: dict[str, Future[None]] = {}
        self._done: queue.SimpleQueue[tuple[str, Sampled | Exception]] = queue.SimpleQueue()
        try:
            super().__init__(serving)
        except BaseException:
            self._loop.close()
            raise

    def add(self, key: str, request: Request) -> None:
        """Queue a turn; one that vLLM refuses comes back with its error."""
        self._tasks[key] = self._loop.submit(self._sample(key, request, self._adapter))

    def step(self) -> list[Sampled]:
        """Wait a moment for turns; those that finished."""
        finished: list[Sampled] = []
        wait_s = PATIENCE_S
        with suppress(queue.Empty):
            while True:
                key, item = self._done.get(timeout=wait_s) if wait_s else self._done.get_nowait()
                wait_s = 0.0
                if self._tasks.pop(key, None) is None:
                    continue  # aborted meanwhile
                if isinstance(item, Exception):
                    raise item
                finished.append(item)
        return finished

    def abort(self, keys: list[str]) -> None:
        """Forget turns: a coroutine that is cancelled aborts its request."""
        for key in keys:
            if (task := self._tasks.pop(key, None)) is not None:
                task.cancel()

    def abort_all(self) -> None:
        """Forget every turn."""
        self.abort(list(self._tasks))
        left = list(self._engine.output_processor.request_states)
        self._call("abort", left, internal=True)

    def close(self) -> None:
        """Stop vLLM and its process."""
        self._wait(self._shut_down())
        self._loop.close()

    def _start(self) -> Any:
        return self._wait(self._open())

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._wait(getattr(self._engine, method)(*args, **kwargs))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self._loop.submit(work).result(_ANSWER_S)
        except TimeoutError as error:
            raise EngineError(f"vLLM's process gave no answer for {_ANSWER_S:g} s") from error

    async def _open(self) -> Any:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(AsyncEngineArgs(**self._serving.arguments()))

    async def _sample(self, key: str, request: Request, adapter: Any) -> None:
        from vllm.exceptions import VLLMClientError

        prompt: Any = {"prompt_token_ids": request.token_ids}
        params = self._serving.sampling(request)
        num_engines = self._serving.options.data_parallel
        rank = request.session % num_engines if num_engines > 1 else None
        try:
            async for output in self._engine.generate(
                prompt, params, key, lora_request=adapter, data_parallel_rank=rank
            ):
                self._done.put((key, as_sampled(output)))  # one, when the turn is finished
        except VLLMClientError as error:
            self._done.put((key, Sampled(key, [], [], False, str(error))))
        except Exception as error:  # vLLM raises whatever its process died of
            self._done.put((key, error))

    async def _shut_down(self) -> None:
        client = self._engine.engine_core
        self._engine.shutdown()
        del self._engine  # it shuts down once more when it goes, and must find its modules then
        client.resources.ctx.term()
