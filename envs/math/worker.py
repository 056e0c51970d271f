"""Symbolic equality in a process that can be killed: the slow path of grading.

The process starts with the first question, belongs to this process alone (a forked child starts
its own), and ends with it: it reads its standard input to the end, and a question may use only so
much of the processor's time, which the kernel enforces. A question that runs out is answered "not
equal": within the size caps of the grammar that is a matter of the expressions, hardly of the
machine, and the answer is remembered.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import select
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError
from .grammar import Node

CPU_S = 2
"""Processor time for one question, in seconds."""
WALL_S = 60.0
"""A machine that is this slow has other troubles: the process is killed."""
_START_S = 120.0
_MISSING = (
    "symbolic answers are compared by sympy, which is not installed (or did not start). "
    "Install it with: pip install 'turnhalle[math]'"
)
_SCRIPT = Path(__file__).with_name("worker_process.py")


@lru_cache(maxsize=4096)
def are_equal(left: Node, right: Node) -> bool:
    """Does sympy prove that two expressions are equal, in time?

    Raises:
        ConfigError: sympy is not installed.
    """
    return _worker.ask(json.dumps([left, right], default=str, separators=(",", ":")))


def require_sympy() -> None:
    """Refuse early where the first hard question would fail.

    Raises:
        ConfigError: sympy is not installed.
    """
    if importlib.util.find_spec("sympy") is None:
        raise ConfigError(_MISSING)


def close() -> None:
    """End the process, if there is one; the next question starts another."""
    _worker.close()


def process_id() -> int | None:
    """The id of the process, None while there is none."""
    return _worker.process.pid if _worker.process else None


class _Worker:
    """The process and its pipes; one question at a time."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()
        self.is_hooked = False

    def ask(self, question: str) -> bool:
        with self.lock:
            process = self.process or self._start()
            answer = self._exchange(process, question.encode() + b"\n", WALL_S)
            if answer is None:
                self._end()
            return answer == b"equal\n"

    def close(self) -> None:
        with self.lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        # A fixed hash seed: sympy's ways depend on the order of sets.
        process = subprocess.Popen(
            [sys.executable, "-s", "-P", str(_SCRIPT), str(CPU_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            start_new_session=True,  # an interrupt at the terminal is ours to handle
        )
        self.process = process
        if not self.is_hooked:
            self.is_hooked = True
            atexit.register(self.close)
            os.register_at_fork(after_in_child=self._forget)
        if self._exchange(process, b"", _START_S) != b"ready\n":
            self._end()
            raise ConfigError(_MISSING)
        return process

    def _exchange(
        self, process: subprocess.Popen[bytes], line: bytes, timeout_s: float
    ) -> bytes | None:
        """Send a line and wait for one; None where the process died or took too long."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
        except OSError:  # it died since the last question
            return None
        readable, _, _ = select.select([process.stdout], [], [], timeout_s)
        return process.stdout.readline() or None if readable else None

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        with process:  # closes the pipes, waits
            pass

    def _forget(self) -> None:
        """In a forked child: the process is the parent's; the lock may have been held."""
        process, self.process = self.process, None
        self.lock = threading.Lock()
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0  # not ours to wait for


_worker = _Worker()
