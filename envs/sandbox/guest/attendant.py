"""Beside every run: forks the candidate, waits for it, ends all that it left, and says how it was.

It runs no more code than it must, because a page that a fork writes to is copied; and it reads
nothing that a candidate wrote, so that a zygote may be its own attendant.
"""

from __future__ import annotations

import os
import struct
from typing import Any, NoReturn

from . import driver, isolate, linux

STDERR, CHANNEL, REPORT = 2, 3, 4
"""Where a candidate has its descriptors; the last only until its walls are up."""
NUM_FDS = 5
ORDER = struct.Struct("=Q")
"""How many bytes the next candidate may write to its disk."""
READY, FAILED, ENDED = b"R", b"F", b"E"
"""First bytes of a report: the candidate waits; something would not stand; all is over."""
END = struct.Struct("=iidq")
"""Wait status, number of other processes, CPU-seconds and KiB of memory at the most."""


def attend_apart(config: dict[str, Any], disk_bytes: int, fds: list[int]) -> NoReturn:
    """Attend to one run as a process of its own, the first of the run's namespaces."""
    report = fds[REPORT]
    code = 1
    try:
        isolate.stage(config, disk_bytes)
        attend(config, fds)
        code = 0
    except BaseException as error:
        fail(report, error)
    finally:
        os._exit(code)


def attend(config: dict[str, Any], fds: list[int]) -> None:
    """Fork a candidate that takes `fds`, and return when nothing of it is left."""
    candidate = linux.fork()
    if candidate == 0:
        _be_candidate(config, fds)
    *theirs, report = fds
    for fd in theirs:
        os.close(fd)
    status, num_others, cpu_s, memory = 0, 0, 0.0, 0
    while True:
        try:
            pid, how, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break  # nobody is left
        cpu_s += usage.ru_utime + usage.ru_stime
        memory = max(memory, usage.ru_maxrss)
        if pid == candidate:
            status = how
            isolate.end_others(config)
        else:
            num_others += 1
    os.write(report, ENDED + END.pack(status, num_others, cpu_s, memory))
    os.close(report)


def fail(report: int, error: BaseException) -> None:
    """Say that a run cannot be."""
    os.write(report, FAILED + f"{type(error).__name__}: {error}".encode())


def _be_candidate(config: dict[str, Any], fds: list[int]) -> NoReturn:
    """Put up the last walls, and behind them run what the channel says."""
    try:
        try:
            for wanted, fd in enumerate(fds):
                os.dup2(fd, wanted, inheritable=wanted <= STDERR)
            os.closerange(NUM_FDS, os.sysconf("SC_OPEN_MAX"))
            isolate.confine(config)
            os.write(REPORT, READY)
        except BaseException as error:
            fail(REPORT, error)
            raise
        os.close(REPORT)
        driver.run(CHANNEL, config)
    finally:
        os._exit(70)
