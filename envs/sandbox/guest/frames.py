"""Frames on a byte stream: u32 length, one byte of kind, payload."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

_HEAD = struct.Struct("!IB")

RUN, CHANNEL, PING, STDOUT, STDERR = b"R", b"V", b"P", b"O", b"E"
END, LOST, HELLO = b"S", b"Z", b"H"
"""Host to box: run this, bytes for the candidate's channel, are you there. Box to host: the
candidate's outputs and channel, how it ended, a supervisor was lost, the zygote is ready."""

MAX_FRAME = 64 * 2**20
"""Bytes; a longer frame is never read."""


class FrameError(ValueError):
    """Bytes that are no frame."""


def pack(kind: bytes, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return _HEAD.pack(len(payload), kind[0]) + payload


def write_all(fd: int, data: bytes) -> None:
    """Write everything to a blocking descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Link:
    """A two-way stream of frames over one or two descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd, self.write_fd = read_fd, write_fd

    def receive(self, count: int = 2**16) -> bytes:
        """Some bytes; none at the end of the stream."""
        try:
            return os.read(self.read_fd, count)
        except ConnectionResetError:
            return b""

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Write one frame."""
        write_all(self.write_fd, pack(kind, payload))


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, max_bytes: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> None:
        """Add bytes that came."""
        self._buffer += data

    def take(self) -> tuple[bytes, bytes] | None:
        """Give the next whole frame, or None if more bytes are needed.

        Raises:
            FrameError: The frame that begins is longer than allowed.
        """
        if len(self._buffer) < _HEAD.size:
            return None
        length, kind = _HEAD.unpack_from(self._buffer)
        if length > self._max_bytes:
            raise FrameError(f"a frame of {length} bytes, at most {self._max_bytes} are allowed")
        end = _HEAD.size + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[_HEAD.size : end])
        del self._buffer[:end]
        return bytes((kind,)), payload

    def wait(self, receive: Callable[[], bytes]) -> tuple[bytes, bytes]:
        """Read until a frame is whole.

        Raises:
            EOFError: The stream ended.
        """
        while (frame := self.take()) is None:
            data = receive()
            if not data:
                raise EOFError("the stream ended")
            self.feed(data)
        return frame
