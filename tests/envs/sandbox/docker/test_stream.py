"""What a daemon sends, cut wherever the wire cuts it."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.box import BoxLost
from turnhalle.envs.sandbox.docker.stream import AttachedStream


def block(channel: int, data: bytes) -> bytes:
    return struct.pack("!BxxxL", channel, len(data)) + data


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, AttachedStream]]:
    daemon, host = socket.socketpair()
    with daemon, host:
        yield daemon, AttachedStream(host)


@pytest.mark.parametrize("cut", [1, 3, 8, 9, 100])
def test_stdout_comes_whole_however_it_is_cut(
    ends: tuple[socket.socket, AttachedStream], cut: int
) -> None:
    daemon, stream = ends
    sent = block(1, b"one") + block(2, b"a complaint") + block(1, b"") + block(1, b"two" * 9)
    got = b""
    for start in range(0, len(sent), cut):
        daemon.sendall(sent[start : start + cut])
        try:
            while True:
                got += stream.receive(deadline=0)
        except BoxLost:
            continue  # nothing more yet
    assert got == b"one" + b"two" * 9
    assert stream.stderr == b"a complaint"


def test_complaints_are_kept_only_so_far(ends: tuple[socket.socket, AttachedStream]) -> None:
    daemon, stream = ends
    for _ in range(10):
        daemon.sendall(block(2, b"x" * 1000))
    daemon.sendall(block(1, b"end"))
    assert stream.receive(time.monotonic() + 5) == b"end"
    assert len(stream.stderr) == 4096


def test_a_container_that_ended_is_lost(ends: tuple[socket.socket, AttachedStream]) -> None:
    daemon, stream = ends
    daemon.close()
    with pytest.raises(BoxLost, match="ended"):
        stream.receive(time.monotonic() + 5)
    with pytest.raises(BoxLost):
        stream.send(b"x" * 2**20, time.monotonic() + 5)


def test_one_that_reads_nothing_is_lost(ends: tuple[socket.socket, AttachedStream]) -> None:
    with pytest.raises(BoxLost, match="silent"):
        ends[1].send(b"x" * 2**24, time.monotonic() + 0.05)


def test_a_stream_that_is_no_plain_socket_is_refused() -> None:
    with pytest.raises(SandboxUnavailableError, match="ssh -NL"):
        AttachedStream(object())
