"""The two-way stream of a container: what `docker attach` carries, cut into its channels.

With no terminal, the daemon puts eight bytes before everything a container writes: the channel (1
stdout, 2 stderr), three zeros, the length. The logs are never read: the container has none.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any

from ...errors import SandboxUnavailableError as Unavailable
from ..box import receive_some, send_all

_HEAD = struct.Struct("!BxxxL")
_STDOUT = 1
_MAX_STDERR = 4096


class AttachedStream:
    """The host's end; belongs to one thread at a time."""

    def __init__(self, attached: Any) -> None:
        """Take over what `attach_socket` gave."""
        self._attached = attached  # owns the socket: without it, the socket would be closed
        link = getattr(attached, "_sock", attached)
        if not isinstance(link, socket.socket) or isinstance(link, ssl.SSLSocket):
            raise Unavailable(
                "the Docker tier speaks to a daemon by a Unix socket or plain TCP; forward that of "
                "a daemon elsewhere: ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST, and "
                "DOCKER_HOST=unix:///tmp/docker.sock"
            )
        link.setblocking(False)
        self._link = link
        self._raw = bytearray()
        self._left = 0
        """Bytes that the block being read still has."""
        self._channel = _STDOUT
        self.stderr = bytearray()
        """The first few KiB that the container's first process complained of."""

    def send(self, data: bytes, deadline: float) -> None:
        """Write all bytes to the container's stdin.

        Raises:
            BoxLost: It is gone, or reads nothing until the deadline.
        """
        send_all(self._link, data, deadline)

    def receive(self, deadline: float) -> bytes:
        """Some bytes that the container wrote to stdout, at least one.

        Raises:
            BoxLost: It is gone, or silent until the deadline.
        """
        while not (data := self._cut()):
            self._raw += receive_some(self._link, deadline)
        return data

    def close(self) -> None:
        """Close it; the container's stdin ends, and with it the container."""
        self._link.close()
        self._attached.close()

    def _cut(self) -> bytes:
        """Bytes of stdout among those that came; those of stderr are kept apart."""
        found = b""
        while self._raw and not found:
            if not self._left:
                if len(self._raw) < _HEAD.size:
                    break
                self._channel, self._left = _HEAD.unpack_from(self._raw)
                del self._raw[: _HEAD.size]
            block = bytes(self._raw[: self._left])
            del self._raw[: len(block)]
            self._left -= len(block)
            if self._channel == _STDOUT:
                found = block
            else:
                self.stderr += block[: _MAX_STDERR - len(self.stderr)]
        return found
