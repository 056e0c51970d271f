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
        self.own_s = (int(fields[11]) + int(fields[12])) / _TICKS
        """CPU-seconds of its own."""
        self.waited_s = (int(fields[13]) + int(fields[14])) / _TICKS
        """CPU-seconds of the children it waited for, and of theirs."""


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
    return _below(root, _all())


def family(pid: int) -> tuple[Process | None, list[Process]]:
    """The parent of a process, if that is there, and every process below the parent."""
    found = _all()
    parent = next((each.parent for each in found if each.pid == pid), 0)
    root = next((each for each in found if each.pid == parent), None)
    return root, _below(parent, found) if root else []


def _below(root: int, among: list[Process]) -> list[Process]:
    by_parent: dict[int, list[Process]] = {}
    for process in among:
        by_parent.setdefault(process.parent, []).append(process)
    found, todo = [], [root]
    while todo:
        children = by_parent.get(todo.pop(), [])
        found += children
        todo += [child.pid for child in children]
    return found


def kill(pid: int) -> None:
    """Kill; a process that is gone is no error, one of another user neither."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_below(root: int, patience_s: float = 5.0) -> None:
    """Kill everything below `root`.

    Stopped first, so that nothing forks while the list is walked; again until nothing is left.
    """
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        living = [process.pid for process in descendants(root) if not process.is_dead]
        if not living:
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
