"""Processes below one of ours: which there are, what they used, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import time

_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A line of `/proc/<pid>/stat`."""

    def __init__(self, pid: int, fields: list[str]) -> None:
        self.pid = pid
        self.is_dead = fields[0] in "ZX"
        self.parent = int(fields[1])
        self.cpu_s = sum(map(int, fields[11:15])) / _TICKS
        """Its own and that of children it waited for."""


def _all() -> list[Process]:
    """Every process that `/proc` shows."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    text = file.read()
            except OSError:
                continue  # it ended meanwhile
            found.append(Process(int(name), text[text.rindex(")") + 2 :].split()))
    return found


def descendants(root: int) -> list[Process]:
    """Every process below `root`, dead ones that nobody waited for too.

    By a whole walk: `/proc/<pid>/task/<tid>/children` may skip some while others end.
    """
    below: dict[int, list[Process]] = {}
    for process in _all():
        below.setdefault(process.parent, []).append(process)
    found, todo = [], [root]
    while todo:
        children = below.get(todo.pop(), [])
        found += children
        todo += [child.pid for child in children]
    return found


def kill(pid: int) -> None:
    """Kill; a process that is gone is no error, one of another user neither."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_below(root: int, patience_s: float = 5.0) -> None:
    """Kill everything below `root` and reap what is ours to reap.

    Stopped first, so that nothing forks while the list is walked; again until nothing is left.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        reap_all()
        living = [process.pid for process in descendants(root) if not process.is_dead]
        if not living:
            reap_all()
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in living:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.001)


def reap_all() -> dict[int, int]:
    """Wait for every child that is dead: pid to wait status."""
    found = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found[pid] = status
    return found
