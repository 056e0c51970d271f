"""Ctrl-C: the first asks for a clean stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from turnhalle.agents.rollout import Watch

from .progress import Listener

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self, listener: Listener) -> None:
        self.is_asked = False
        self._listener = listener

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into requests while the block runs (in the main thread)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def watch(self, what: str) -> Watch:
        """For a rollout: tells the listener how far it is, and stops it once somebody asked."""

        def watch(done: int, total: int) -> bool:
            self._listener.progress(what, done, total)
            return self.is_asked

        return watch

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
        self._listener.note("stopping: writing a checkpoint (once more to stop at once)")
