"""What a tier provides: a warm supervisor behind a stream of bytes, one to a slot."""

from __future__ import annotations

import os
import select
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ..errors import SandboxError
from .core import Isolation, Limits
from .guest import frames
from .keeper import Keeper, Started

START_TIMEOUT_S = 30.0
"""Seconds a box may take to be ready; a busy machine is slow, a broken one does not recover."""


@dataclass(frozen=True, slots=True)
class Meter:
    """What the host itself measured of a run; None where it cannot."""

    cpu_s: float | None = None
    max_memory_bytes: int | None = None
    num_oom_kills: int = 0
    num_refused_processes: int = 0


class BoxLost(Exception):  # noqa: N818 - a fact about a box, handled by the pool
    """The stream to a box ended, or it stayed silent beyond every deadline."""


class Box(ABC):
    """A place with a supervisor in it; used by one run at a time, replaced when in doubt."""

    @abstractmethod
    def start(self) -> None:
        """Make the place, send the bundle, wait for the supervisor's hello.

        Raises:
            SandboxError: It would not start.
        """

    @abstractmethod
    def send(self, data: bytes, deadline: float) -> None:
        """Write all bytes before `deadline` (of `time.monotonic`).

        Raises:
            BoxLost: It is gone, or reads nothing.
        """

    @abstractmethod
    def receive(self, deadline: float) -> bytes:
        """Some bytes, at least one.

        Raises:
            BoxLost: It is gone, or silent until the deadline.
        """

    @abstractmethod
    def end(self) -> None:
        """Kill all that is inside, and remove the place; twice is once."""

    def prepare(self, limits: Limits) -> None:  # noqa: B027 - most tiers have nothing to do
        """Set what holds for the next run alone, e.g. the limits of a cgroup."""

    def measure(self) -> Meter:
        """What the host measured since `prepare`."""
        return Meter()


class StreamBox(Box):
    """A box on this machine, started by the keeper: a socket is its stream."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._started: Started | None = None

    @abstractmethod
    def _launch(self) -> tuple[Started, bytes]:
        """Start the supervisor's interpreter; gives it and the bundle to send."""

    def start(self) -> None:
        """See `Box.start`."""
        try:
            self._started, data = self._launch()
        except (OSError, SandboxError) as error:
            self.end()  # a user or a cgroup may be held already
            raise SandboxError(f"a box did not start: {error}") from error
        self._started.control.setblocking(False)
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            self.send(data, deadline)
            reader = frames.FrameReader()
            kind, said = reader.wait(lambda: self.receive(deadline))
        except (BoxLost, frames.FrameError) as error:
            complaint = self._said()
            self.end()
            raise SandboxError(f"a box did not start: {complaint or error}") from None
        if kind != frames.HELLO:
            self.end()
            raise SandboxError(f"a box did not start: {said[:500].decode(errors='replace')}")

    def _said(self) -> str:
        """What the box wrote to its standard error while it started."""
        assert self._started is not None
        try:
            return os.read(self._started.errors, 2000).decode(errors="replace").strip()
        except BlockingIOError:
            return ""

    def _socket(self) -> socket.socket:
        if self._started is None:
            raise BoxLost("it was ended")
        return self._started.control

    def send(self, data: bytes, deadline: float) -> None:
        """See `Box.send`."""
        send_all(self._socket(), data, deadline)

    def receive(self, deadline: float) -> bytes:
        """See `Box.receive`."""
        return receive_some(self._socket(), deadline)

    def end(self) -> None:
        """See `Box.end`."""
        if self._started is not None:
            started, self._started = self._started, None
            started.close()
            self._keeper.end(started.pid)


def send_all(link: socket.socket, data: bytes, deadline: float) -> None:
    """Write all bytes to a non-blocking socket; see `Box.send`."""
    view = memoryview(data)
    while view:
        _wait(link, select.POLLOUT, deadline)
        try:
            view = view[link.send(view) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise BoxLost(str(error)) from None


def receive_some(link: socket.socket, deadline: float) -> bytes:
    """Some bytes of a non-blocking socket; see `Box.receive`."""
    while True:
        _wait(link, select.POLLIN, deadline)
        try:
            data = link.recv(2**16)
        except (BlockingIOError, ConnectionResetError):
            continue  # a reset is told once, then comes what was sent before it
        except OSError as error:
            raise BoxLost(str(error)) from None
        if not data:
            raise BoxLost("its stream ended")
        return data


def _wait(link: socket.socket, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(link, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise BoxLost("it is silent")


class Tier(ABC):
    """A way of containing: makes boxes, and says how well they contain."""

    isolation: Isolation
    recycle_after: int = 200
    """Runs, after which a box is replaced; it is after every abnormal end."""

    @abstractmethod
    def make_box(self) -> Box:
        """A box that is not started yet."""

    def close(self) -> None:  # noqa: B027 - most tiers have nothing to do
        """Give back what is shared by the boxes, after they ended."""
