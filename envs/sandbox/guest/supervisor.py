"""One run, from request to end: forks the candidate, carries its output, holds it to its limits.

It never judges: it says how the candidate ended and which limit, if any, it was killed for. Kill,
reap, read the rest, then report, so that nothing a candidate left can write into what comes next.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import signal
import socket
import time
from typing import Any

from . import driver, frames, isolate, processes

GONE = 3
"""Exit code of a supervisor whose host is gone."""
_CHUNK = 2**16
_POLL_CPU_S = 0.02
_MAX_ANSWERS = 16 * 2**20


class Supervisor:
    """The state of one run."""

    def __init__(self, control: frames.Link, config: dict[str, Any]) -> None:
        self._control = control
        self._config = config
        self._reader = frames.FrameReader()
        self._left: dict[int, int] = {}
        """Descriptor read from to bytes it may still send."""
        self._kinds: dict[int, bytes] = {}
        self._to_candidate = bytearray()
        self._status: int | None = None
        self._limit: str | None = None
        self._is_orphan = False
        self._num_orphans = 0

    def serve(self) -> int:
        """Stage, answer pings, run one request; gives the exit code of this process."""
        isolate.stage(self._config)
        self._listen_for_children()
        self._fork()
        try:
            request = self._wait_for_request()
            if request is None:
                return GONE
            self._begin(json.loads(request))
            self._watch()
        finally:
            processes.kill(self._candidate)
        self._reap()
        num_left = self._num_orphans + isolate.sweep(self._config, self._candidate)
        self._reap(is_last=True)
        for fd in list(self._left):
            self._read_rest(fd)
        is_clean = isolate.wipe(self._config)
        return self._report(num_left, is_clean)

    def _listen_for_children(self) -> None:
        self._wake, wake = os.pipe()
        for fd in (self._wake, wake):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def _fork(self) -> None:
        """Fork the candidate, which puts up its walls and then waits for its request."""
        self._stdin = os.memfd_create("stdin")
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        ours, theirs = socket.socketpair()
        self._candidate = os.fork()
        if self._candidate == 0:
            try:
                for fd, wanted in ((self._stdin, 0), (out_end, 1), (err_end, 2)):
                    os.dup2(fd, wanted)
                channel = 3
                os.dup2(theirs.fileno(), channel, inheritable=False)
                os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
                isolate.confine(self._config)
                driver.run(channel, self._config)
            finally:
                os._exit(70)
        for fd in (out_end, err_end):
            os.close(fd)
        theirs.close()
        self._channel = ours.detach()
        self._kinds = {out: frames.STDOUT, err: frames.STDERR, self._channel: frames.CHANNEL}

    def _wait_for_request(self) -> bytes | None:
        """The next request; None if the host is gone."""
        try:
            while True:
                kind, payload = self._reader.wait(self._control.receive)
                if kind == frames.PING:
                    self._control.send(frames.PING)
                elif kind == frames.RUN:
                    return payload
        except EOFError:
            return None

    def _begin(self, request: dict[str, Any]) -> None:
        """Close the last walls and let the candidate go."""
        self._limits = request["limits"]
        isolate.close_in(self._config, self._limits)
        frames.write_all(self._stdin, base64.b64decode(request.pop("stdin")))
        os.lseek(self._stdin, 0, os.SEEK_SET)
        os.close(self._stdin)
        self._before_s = _own_cpu_s(self._candidate)
        self._started = time.monotonic()
        body = json.dumps(request).encode()
        frames.write_all(self._channel, len(body).to_bytes(4, "big") + body)
        for fd, kind in self._kinds.items():
            os.set_blocking(fd, False)
            is_output = kind != frames.CHANNEL
            self._left[fd] = self._limits["output_bytes"] if is_output else request["channel_bytes"]

    def _watch(self) -> None:
        """Carry bytes until the candidate ends or reaches a limit."""
        poll = select.poll()
        for fd in (*self._left, self._control.read_fd, self._wake):
            poll.register(fd, select.POLLIN)
        next_cpu = self._started
        if self._config["counts_processes"]:
            next_cpu += self._limits["cpu_s"] / (os.cpu_count() or 1)
        end = self._started + self._limits["wall_s"]
        while self._status is None and self._limit is None and not self._is_orphan:
            now = time.monotonic()
            if now >= end:
                self._limit = self._measure() or "wall"
                return
            if now >= next_cpu:
                next_cpu = now + _POLL_CPU_S
                self._limit = self._measure()
                continue
            for fd, _ in poll.poll((min(end, next_cpu) - now) * 1000 + 1):
                if fd == self._wake:
                    os.read(self._wake, _CHUNK)
                    self._reap()
                elif fd == self._control.read_fd:
                    self._hear()
                elif fd in self._left and not self._carry(fd):
                    poll.unregister(fd)
            self._answer(poll)

    def _measure(self) -> str | None:
        """The limit that all processes of the candidate together have reached."""
        below = processes.descendants(os.getpid())
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = sum(process.cpu_s for process in below) + usage.ru_utime + usage.ru_stime
        if cpu_s - self._before_s > self._limits["cpu_s"]:
            return "cpu"
        # A late net: where the kernel counts, it refuses long before.
        return "processes" if len(below) > 2 * self._limits["max_processes"] else None

    def _reap(self, is_last: bool = False) -> None:
        ended = processes.reap_all()
        self._num_orphans += len(ended.keys() - {self._candidate})
        if self._candidate in ended:
            self._status = ended[self._candidate]
        elif is_last and self._status is None:
            try:
                _, self._status = os.waitpid(self._candidate, 0)
            except ChildProcessError:
                self._status = 9

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
        if self._channel not in self._left:
            return
        if self._to_candidate:
            try:
                del self._to_candidate[: os.write(self._channel, self._to_candidate)]
            except BlockingIOError:
                pass
            except OSError:
                self._to_candidate.clear()
        wanted = select.POLLIN | (select.POLLOUT if self._to_candidate else 0)
        poll.modify(self._channel, wanted)

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
            self._limit = self._limit or ("value" if fd == self._channel else "output")
        return True

    def _read_rest(self, fd: int) -> None:
        """Read what is left after the end; nobody writes any more."""
        while fd in self._left:
            ready = select.poll()
            ready.register(fd, select.POLLIN)
            if not ready.poll(0) or not self._carry(fd):
                return

    def _report(self, num_left: int, is_clean: bool) -> int:
        if self._is_orphan:
            return GONE
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = os.waitstatus_to_exitcode(self._status or 0)
        facts = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "limit": self._limit,
            "num_left": num_left,
            "is_clean": is_clean,
            "cpu_s": max(0.0, usage.ru_utime + usage.ru_stime - self._before_s),
            "wall_s": time.monotonic() - self._started,
            "max_memory_bytes": usage.ru_maxrss * 1024,
        }
        while not self._reader.is_between:  # the next supervisor reads whole frames only
            data = self._control.receive(1)
            if not data:
                return GONE
            self._reader.feed(data)
            self._reader.take()
        self._control.send(frames.END, json.dumps(facts).encode())
        return 0


def _own_cpu_s(pid: int) -> float:
    """CPU-seconds of one process so far: its clock has a name made of its id."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it is dead
        return 0.0
