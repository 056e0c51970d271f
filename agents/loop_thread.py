"""An event loop in a daemon thread, for environments and engines that are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_FAREWELL_S = 5.0
"""Longest wait for coroutines that take their cancellation badly."""


class LoopThread:
    """Runs coroutines until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="env-loop")
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def current(self) -> asyncio.Task[Any] | None:
        """The task that runs at this moment, where one does not let go."""
        return asyncio.current_task(self._loop)

    def close(self, wait_s: float = _FAREWELL_S) -> None:
        """Cancel what runs, and end the thread; one that is held up ends when it is let go."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(wait_s)

    def _run(self) -> None:
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(_ended(left))
        self._loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)
    await asyncio.sleep(0)  # who is told of their end is told a round later
