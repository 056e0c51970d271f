"""The sandboxes of a process: opened with the first run, shared by all its environments.

Tests that are code run in a sandbox of their own: no box that ever held a policy's code decides
about one.
"""

from __future__ import annotations

import atexit
import os
import threading
from functools import cached_property

from ...sandbox.core import Sandbox
from ...sandbox.options import SandboxOptions, open_sandbox
from .memory import Memory


class Boxes:
    """Where candidates run, where the tests do that are code, and what tests found so far."""

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self.memory = Memory()
        self.candidates = open_sandbox(options)

    @property
    def checkers(self) -> Sandbox:
        """Opened with the first tests that are code."""
        with self._lock:
            return self._checkers

    @cached_property
    def _checkers(self) -> Sandbox:
        return open_sandbox(self._options)

    def close(self) -> None:
        """End both."""
        self.candidates.close()
        if "_checkers" in self.__dict__:
            self._checkers.close()


_lock = threading.Lock()
_opened: dict[tuple[int, str], Boxes] = {}


def shared_boxes(options: SandboxOptions) -> Boxes:
    """The sandboxes of this process with these options.

    Raises:
        SandboxUnavailableError: Nothing on this machine contains code.
    """
    # A forked process must not speak to the boxes of its parent.
    key = (os.getpid(), options.model_dump_json())
    with _lock:
        if key not in _opened:
            _opened[key] = Boxes(options)
        return _opened[key]


@atexit.register
def close_boxes() -> None:
    """End the sandboxes that this process opened."""
    with _lock:
        for key in [key for key in _opened if key[0] == os.getpid()]:
            _opened.pop(key).close()
