"""A process beside the host that starts boxes, ends them, and outlives the host just long enough.

It runs outside of every box. The host is full of threads, and so cannot fork safely, cannot be the
parent that a box dies with (the signal is sent when a *thread* ends), and should not adopt orphans;
this one is small, has one thread and does all three. When the host ends, however it ends, it kills
all that it started, removes the cgroups and folders of the boxes, and ends too.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import time
from typing import Any

from . import linux, processes

_TICK_MS = 500
_PATIENCE_S = 5.0


def main(read_fd: int, write_fd: int, config: dict[str, Any]) -> int:
    """Obey the host until it is gone."""
    os.setsid()
    linux.adopt_orphans()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.close(read_fd)
    host = socket.socket(fileno=write_fd)
    poll = select.poll()
    poll.register(host, select.POLLIN)
    remains: set[str] = set()
    roots: set[int] = set()
    # A forked child of the host may hold the other end open: its parent tells the truth.
    while os.getppid() == config["host"]:
        ready = poll.poll(_TICK_MS)
        processes.reap_all()
        if not ready:
            continue
        order, fds = _receive(host)
        if order is None:
            break
        remains.update(order.get("remains", ()))
        try:
            answer = _obey(order, fds, roots)
        except OSError as error:
            answer = {"error": str(error)}
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(BrokenPipeError):
            host.send(json.dumps(answer).encode())
    processes.kill_below(os.getpid(), _PATIENCE_S)
    for path in sorted(remains, reverse=True):
        _remove(path)
    return 0


def _receive(host: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    try:
        data, fds, _, _ = socket.recv_fds(host, 2**18, 4)
    except ConnectionResetError:
        return None, []
    return (json.loads(data) if data else None), fds


def _obey(order: dict[str, Any], fds: list[int], roots: set[int]) -> dict[str, Any]:
    if order["do"] == "start":
        pid = _start(order, fds)
        roots.add(pid)
        return {"pid": pid}
    if order["do"] == "remove":
        for path in order["paths"]:
            _remove(path)
        return {}
    return {"left": _end(order["pid"], roots)}


def _start(order: dict[str, Any], fds: list[int]) -> int:
    """Start a program: descriptor 3 is the first given, 2 the second."""
    warden = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for path in order["cgroups"]:
            with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        nothing = os.open("/dev/null", os.O_RDWR)
        control, errors = fds
        for fd, wanted in ((nothing, 0), (nothing, 1), (errors, 2), (control, 3)):
            os.dup2(fd, wanted)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.chdir("/")
        os.umask(0o077)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if order["uid"] is not None:
            linux.drop_bounding_set()
            os.setgroups([])
            os.setresgid(order["uid"], order["uid"], order["uid"])
            os.setresuid(order["uid"], order["uid"], order["uid"])
        linux.die_with_parent()  # after the change of user, which would undo it
        if os.getppid() == warden:
            os.execve(order["argv"][0], order["argv"], order["env"])
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(127)


def _end(root: int, roots: set[int]) -> int:
    """Kill a program and all below it, and wait until they are gone; gives how many would not."""
    if root not in roots:
        return 0  # of an earlier warden, with which it died; the number may be somebody else's now
    processes.kill_below(root)
    processes.kill(root)
    roots.discard(root)
    end = time.monotonic() + _PATIENCE_S
    while True:
        processes.reap_all()
        # Orphans have become children of ours, and are of no program that still runs.
        left = [
            each.pid
            for each in processes.descendants(os.getpid())
            if each.pid == root or (each.parent == os.getpid() and each.pid not in roots)
        ]
        if not left or time.monotonic() > end:
            return len(left)
        for pid in left:
            processes.kill_below(pid)
            processes.kill(pid)


def _remove(path: str) -> None:
    """Remove a cgroup, or a folder with all that is in it."""
    if path.startswith("/sys/fs/cgroup/"):
        with contextlib.suppress(OSError):
            os.rmdir(path)
    else:
        shutil.rmtree(path, ignore_errors=True)
