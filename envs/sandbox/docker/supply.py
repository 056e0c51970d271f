"""Containers made ahead and ended behind, so that no run waits for the daemon."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from ...errors import SandboxError
from ..core import Limits
from .container import Container, Shape

_NUM_WORKERS = 2
"""The daemon makes containers one after the other, more or less: 2 keep it busy."""


class Supply:
    """Ready containers of the shape that was wanted last; thread-safe."""

    def __init__(self, make: Callable[[Shape], Container], num_spare: int) -> None:
        """Keep `num_spare` containers in reserve, made by `make`."""
        self._make = make
        self._num_spare = num_spare
        self._lock = threading.Lock()
        self._shape = Shape.of(Limits())
        self._spare: deque[tuple[Shape, Future[Container]]] = deque()
        self._workers = ThreadPoolExecutor(_NUM_WORKERS, thread_name_prefix="turnhalle-docker")
        self._is_closed = False

    def take(self, shape: Shape | None = None) -> Container:
        """A ready container of a shape, of the last one for None.

        Raises:
            SandboxError: None could be made.
        """
        with self._lock:
            if self._is_closed:
                raise SandboxError("the sandbox is closed")
            self._shape = shape = shape or self._shape
            stale = [spare for spare in self._spare if spare[0] != shape]
            self._spare = deque(spare for spare in self._spare if spare[0] == shape)
            ready = self._spare.popleft()[1] if self._spare else None
        for _, future in stale:
            future.add_done_callback(self._end_made)
        container = self._make(shape) if ready is None else ready.result()
        self._restock()
        return container

    def give_back(self, container: Container) -> None:
        """End a container; its stream at once, the rest soon."""
        container.stream.close()
        with self._lock:
            if not self._is_closed:
                self._workers.submit(container.remove)
                return
        container.remove()

    def close(self) -> None:
        """End every container that was not taken, and wait for all that were given back."""
        with self._lock:
            self._is_closed = True
            spare, self._spare = list(self._spare), deque()
        for _, future in spare:
            if not future.cancel():
                self._end_made(future)
        self._workers.shutdown(wait=True)

    def _restock(self) -> None:
        with self._lock:
            while not self._is_closed and len(self._spare) < self._num_spare:
                future = self._workers.submit(self._make, self._shape)
                self._spare.append((self._shape, future))

    def _end_made(self, future: Future[Container]) -> None:
        """End what a future made or is about to make; a failure to make is nobody's loss."""
        if not future.cancelled() and future.exception() is None:
            future.result().end()
