"""A daemon that stops to answer is a failure of the sandbox, not of whoever asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("docker")
import requests

from turnhalle.envs.errors import SandboxError
from turnhalle.envs.sandbox.core import Limits
from turnhalle.envs.sandbox.docker.container import Container, Guest, Shape
from turnhalle.envs.sandbox.docker.options import DockerOptions
from turnhalle.envs.sandbox.guest import frames

GUEST = Guest(DockerOptions(), "python3", (), None, True, "test")
HELLO = frames.pack(frames.HELLO)


class FakeDaemon:
    """As much of the SDK as a container needs; one request is never answered."""

    def __init__(self, silent_at: str, link: socket.socket) -> None:
        self.api, self._silent_at, self._link = self, silent_at, link
        self.asked: list[str] = []

    def create_host_config(self, **_: Any) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Any:
        answers = {
            "create_container": {"Id": "c0"},
            "attach_socket": self._link,
            "start": None,
            "inspect_container": {"State": {"Pid": 2**30}},
            "remove_container": None,
        }

        def ask(*_: Any, **__: Any) -> Any:
            self.asked.append(name)
            if name == self._silent_at:
                raise requests.ReadTimeout("read timed out")
            return answers[name]

        return ask


@pytest.fixture
def link() -> Iterator[socket.socket]:
    """The host's end of a container whose supervisor says hello at once."""
    host, supervisor = socket.socketpair()
    supervisor.sendall(bytes([1, 0, 0, 0]) + len(HELLO).to_bytes(4, "big") + HELLO)
    with host, supervisor:
        yield host


@pytest.mark.parametrize(
    ("silent_at", "is_removed"),
    [
        ("create_container", False),
        ("attach_socket", True),
        ("start", True),
        ("inspect_container", True),
    ],
)
def test_a_daemon_that_falls_silent_while_it_makes_a_container_is_an_error_of_the_sandbox(
    silent_at: str, is_removed: bool, link: socket.socket
) -> None:
    daemon: Any = FakeDaemon(silent_at, link)
    with pytest.raises(SandboxError, match="read timed out"):
        Container(daemon, GUEST, Shape.of(Limits()), uid=74000)
    assert ("remove_container" in daemon.asked) is is_removed


def test_a_daemon_that_falls_silent_while_it_removes_one_is_too(link: socket.socket) -> None:
    daemon: Any = FakeDaemon("remove_container", link)
    container = Container(daemon, GUEST, Shape.of(Limits()), uid=74000)
    with pytest.raises(SandboxError, match="read timed out"):
        container.end()
