"""One run, from request to end: carries the candidate's output, holds it to its limits.

It never judges: it says how the candidate ended and which limit, if any, it was killed for. Kill,
reap, read the rest, then report, so that nothing a candidate left can write into what comes next.
"""

from __future__ import annotations

import base64
import json
import marshal
import os
import select
import socket
import struct
import time
from typing import Any

from . import attendant, frames, isolate, processes

_CHUNK = 2**16
_POLL_CPU_S = 0.02
_MAX_ANSWERS = 16 * 2**20
_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")


class Lost(Exception):  # noqa: N818 - a fact about a box
    """A candidate could not be staged, or nobody knows how it ended."""


class Candidate:
    """One that waits for its request, behind walls for so many bytes of disk."""

    def __init__(self, orders: socket.socket, disk_bytes: int, reaped_s: float) -> None:
        """Have the zygote make it.

        `reaped_s` are the CPU-seconds of all that its attendant has waited for before.

        Raises:
            Lost: There is no zygote, or something would not stand.
        """
        self.disk_bytes, self.reaped_s = disk_bytes, reaped_s
        self.stdin = os.memfd_create("stdin")
        self.stdout, out_end = os.pipe()
        self.stderr, err_end = os.pipe()
        channel, channel_end = socket.socketpair()
        self.channel = channel.detach()
        self.report, report_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.report.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        theirs = [self.stdin, out_end, err_end, channel_end.fileno(), report_end.fileno()]
        socket.send_fds(orders, [attendant.ORDER.pack(disk_bytes)], theirs)
        for fd in (out_end, err_end):
            os.close(fd)
        channel_end.close()
        report_end.close()
        self.pid = self._wait_until_ready()

    def _wait_until_ready(self) -> int:
        """Its process id: a number in another namespace, so the kernel itself must say it."""
        data, ancillary, _, _ = self.report.recvmsg(2000, socket.CMSG_SPACE(_CREDENTIALS.size))
        if data != attendant.READY:
            raise Lost(_failure(data))
        pid: int = _CREDENTIALS.unpack(ancillary[0][2])[0]
        return pid

    def discard(self) -> None:
        """End it without a request."""
        processes.kill(self.pid)
        self.wait()
        for fd in (self.stdin, self.stdout, self.stderr, self.channel):
            os.close(fd)
        self.report.close()

    def wait(self) -> tuple[int, int, float, int]:
        """Wait until all is over; gives wait status, others, CPU-seconds and KiB at the most.

        Raises:
            Lost: Nobody knows how it ended.
        """
        data = self.report.recv(2000)
        if data[:1] != attendant.ENDED:
            raise Lost(_failure(data))
        status, num_others, cpu_s, memory = attendant.END.unpack(data[1:])
        return status, num_others, cpu_s, memory


def _failure(data: bytes) -> str:
    if data[:1] == attendant.FAILED:
        return data[1:].decode(errors="replace")
    return "a candidate or its attendant is gone"


class Run:
    """The state of one run."""

    def __init__(
        self,
        control: frames.Link,
        reader: frames.FrameReader,
        candidate: Candidate,
        config: dict[str, Any],
    ) -> None:
        self._control, self._reader = control, reader
        self._candidate, self._config = candidate, config
        self._kinds = {
            candidate.stdout: frames.STDOUT,
            candidate.stderr: frames.STDERR,
            candidate.channel: frames.CHANNEL,
        }
        self._left: dict[int, int] = {}
        """Descriptor read from to bytes it may still send."""
        self._to_candidate = bytearray()
        self._end: tuple[int, int, float, int] | None = None
        self._limit: str | None = None
        self._is_orphan = False
        self.cpu_s = 0.0
        """Of all that was waited for, once it is over."""

    def serve(self, request: dict[str, Any]) -> bool:
        """Run one request and report; gives whether the host is still there.

        Raises:
            Lost: Nobody knows how it ended.
        """
        self._begin(request)
        self._watch()
        if self._end is None:
            processes.kill(self._candidate.pid)
            self._end = self._candidate.wait()
        for fd in list(self._left):
            self._read_rest(fd)
        self._candidate.report.close()
        if not self._is_orphan:
            self._report(*self._end)
        return not self._is_orphan

    def _begin(self, request: dict[str, Any]) -> None:
        """Let the candidate close its last walls and go."""
        candidate = self._candidate
        self._limits = request["limits"]
        frames.write_all(candidate.stdin, base64.b64decode(request.pop("stdin")))
        os.lseek(candidate.stdin, 0, os.SEEK_SET)
        os.close(candidate.stdin)
        self._before_s = _own_cpu_s(candidate.pid)
        self._started = time.monotonic()
        body = marshal.dumps(request)
        frames.write_all(candidate.channel, _LENGTH.pack(len(body)) + body)
        for fd, kind in self._kinds.items():
            os.set_blocking(fd, False)
            is_output = kind != frames.CHANNEL
            self._left[fd] = self._limits["output_bytes"] if is_output else request["channel_bytes"]

    def _watch(self) -> None:
        """Carry bytes until all is over, or a limit is reached."""
        report = self._candidate.report.fileno()
        poll = select.poll()
        for fd in (*self._left, self._control.read_fd, report):
            poll.register(fd, select.POLLIN)
        next_cpu = self._started
        if self._config["counts_processes"]:
            next_cpu += self._limits["cpu_s"] / (os.cpu_count() or 1)
        end = self._started + self._limits["wall_s"]
        while self._end is None and self._limit is None and not self._is_orphan:
            now = time.monotonic()
            if now >= end:
                self._limit = self._measure() or "wall"
                return
            if now >= next_cpu:
                next_cpu = now + _POLL_CPU_S
                self._limit = self._measure()
                continue
            for fd, _ in poll.poll((min(end, next_cpu) - now) * 1000 + 1):
                if fd == report:
                    self._end = self._candidate.wait()
                elif fd == self._control.read_fd:
                    self._hear()
                elif fd in self._left and not self._carry(fd):
                    poll.unregister(fd)
            self._answer(poll)

    def _measure(self) -> str | None:
        """The limit that all processes of the candidate together have reached."""
        root, below = processes.family(self._candidate.pid)
        if root is None:
            return None  # it has just ended
        cpu_s = sum(each.own_s + each.waited_s for each in below) + root.waited_s
        if cpu_s - self._candidate.reaped_s > self._limits["cpu_s"]:
            return "cpu"
        # A late net: where the kernel counts, it refuses long before.
        return "processes" if len(below) > 2 * self._limits["max_processes"] else None

    def _hear(self) -> None:
        """Bytes from the host: answers for the candidate, or its end."""
        data = self._control.receive()
        if not data:
            self._is_orphan = True
            return
        self._reader.feed(data)
        while (frame := self._reader.take()) is not None:
            kind, payload = frame
            if kind == frames.CHANNEL:
                self._to_candidate += payload
        if len(self._to_candidate) > _MAX_ANSWERS:
            self._limit = "value"  # it asks and asks, and does not listen

    def _answer(self, poll: Any) -> None:
        channel = self._candidate.channel
        if channel not in self._left:
            return
        if self._to_candidate:
            try:
                del self._to_candidate[: os.write(channel, self._to_candidate)]
            except BlockingIOError:
                pass
            except OSError:
                self._to_candidate.clear()
        wanted = select.POLLIN | (select.POLLOUT if self._to_candidate else 0)
        poll.modify(channel, wanted)

    def _carry(self, fd: int) -> bool:
        """Pass on what a descriptor has; False at its end."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            del self._left[fd]
            os.close(fd)
            return False
        fits = data[: self._left[fd]]
        self._left[fd] -= len(fits)
        if fits:
            self._control.send(self._kinds[fd], fits)
        if len(fits) < len(data):
            self._limit = self._limit or ("value" if fd == self._candidate.channel else "output")
        return True

    def _read_rest(self, fd: int) -> None:
        """Read what is left and close; nobody writes any more."""
        ready = select.poll()
        ready.register(fd, select.POLLIN)
        while ready.poll(0):
            if not self._carry(fd):
                return
        del self._left[fd]  # held open by a descriptor on its way through a socket
        os.close(fd)

    def _report(self, status: int, num_others: int, cpu_s: float, memory: int) -> None:
        self.cpu_s = cpu_s
        code = os.waitstatus_to_exitcode(status)
        facts = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "limit": self._limit,
            "num_left": num_others,
            "is_clean": isolate.wipe(self._config),
            "cpu_s": max(0.0, cpu_s - self._before_s),
            "wall_s": time.monotonic() - self._started,
            "max_memory_bytes": memory * 1024,
        }
        self._control.send(frames.END, json.dumps(facts).encode())


def _own_cpu_s(pid: int) -> float:
    """CPU-seconds of one process so far: its clock has a name made of its id."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it is dead
        return 0.0
