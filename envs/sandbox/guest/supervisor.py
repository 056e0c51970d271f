"""The first process of a box: has candidates forked, and takes the host's requests to them.

No candidate is forked from it, sees it or can reach it: what it remembers of a run stays with it.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import socket
from typing import Any, NoReturn

from . import attendant, frames, linux, zygote
from .run import Candidate, Lost, Run


def main(read_fd: int, write_fd: int, config: dict[str, Any]) -> int:
    """Serve the host until it is gone, or something fails."""
    control = _take_away(read_fd, write_fd)
    if config["dies_with_parent"]:
        linux.die_with_parent()
    linux.set_dumpable(False)
    linux.forbid_new_privileges()
    if config["drop_capabilities"]:
        linux.drop_bounding_set()
    if config["seccomp"]:
        config["seccomp"] = linux.Filter(base64.b64decode(config["seccomp"]))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        _become_zygote(theirs, config, ours.fileno(), control.read_fd, control.write_fd)
    theirs.close()
    if config["drop_capabilities"] and config["uid"] is None:  # else it needs them to clean up
        linux.drop_capabilities()
    try:
        return _serve(control, ours, config)
    except (Lost, OSError) as error:
        with contextlib.suppress(OSError):
            control.send(frames.LOST, (_last_words(ours) or str(error)).encode())
        return 1


def _take_away(read_fd: int, write_fd: int) -> frames.Link:
    """Move the control descriptors above a candidate's, which become nothing; close the rest."""
    fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (read_fd, write_fd)]
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in range(attendant.NUM_FDS):
        os.dup2(nothing, fd)
    os.closerange(attendant.NUM_FDS, min(fds))
    os.closerange(max(fds) + 1, os.sysconf("SC_OPEN_MAX"))
    return frames.Link(*fds)


def _become_zygote(link: socket.socket, config: dict[str, Any], *fds: int) -> NoReturn:
    """Close the supervisor's own descriptors, and do what a zygote does."""
    for fd in fds:
        os.close(fd)
    try:
        zygote.main(link, config)
    except BaseException as error:
        link.send(f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)


def _serve(control: frames.Link, orders: socket.socket, config: dict[str, Any]) -> int:
    """One candidate after the other; the next is staged while the host reads of the last."""
    reader = frames.FrameReader()
    reaped_s = 0.0
    candidate = Candidate(orders, config["disk_bytes"], reaped_s)
    control.send(frames.HELLO)
    while (data := _next_request(control, reader)) is not None:
        request = json.loads(data)
        disk_bytes = request["limits"]["disk_bytes"]
        if disk_bytes != candidate.disk_bytes:  # seldom: most runs have the limits of the last
            candidate.discard()
            candidate = Candidate(orders, disk_bytes, reaped_s)
        run = Run(control, reader, candidate, config)
        if not run.serve(request):
            return 0
        if config["is_alone"]:
            reaped_s += run.cpu_s
        candidate = Candidate(orders, disk_bytes, reaped_s)
    return 0


def _next_request(control: frames.Link, reader: frames.FrameReader) -> bytes | None:
    """What the host wants run next; None if it is gone. A late answer to an earlier run is none."""
    try:
        while True:
            kind, payload = reader.wait(control.receive)
            if kind == frames.PING:
                control.send(frames.PING)
            elif kind == frames.RUN:
                return payload
    except EOFError:
        return None


def _last_words(orders: socket.socket) -> str:
    """What the zygote said before it ended, if it did."""
    orders.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # a reset hides what came before it
    with contextlib.suppress(OSError):
        return orders.recv(2000, socket.MSG_DONTWAIT).decode(errors="replace")
    return ""
