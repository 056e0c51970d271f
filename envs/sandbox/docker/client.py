"""The way to a Docker daemon, with an error that says what to do where there is none."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ...errors import SandboxUnavailableError as Unavailable

if TYPE_CHECKING:
    from docker.client import DockerClient

_TIMEOUT_S = 60
"""How long one request to the daemon may take: a busy daemon needs seconds to make a container."""
_DEFAULT = "unix:///var/run/docker.sock"


def connect() -> DockerClient:
    """Connect to the daemon that `DOCKER_HOST` names, else to `/var/run/docker.sock`.

    Raises:
        SandboxUnavailableError: If the Python package `docker` is not installed, or no daemon
            answers, or it may not be talked to.
    """
    try:
        from docker.client import DockerClient
        from docker.errors import DockerException
    except ImportError:
        raise Unavailable(
            "the Docker tier needs the package docker: pip install 'turnhalle[docker]'"
        ) from None
    host = os.environ.get("DOCKER_HOST") or _DEFAULT
    if host.startswith("unix://"):
        _knock(host.removeprefix("unix://"))
    try:
        client: DockerClient = DockerClient.from_env(timeout=_TIMEOUT_S)
        client.ping()
    except DockerException as error:
        raise Unavailable(f"no Docker daemon answers at {host}: {error}") from error
    return client


def _knock(path: str) -> None:
    """Try a socket: what the SDK raises wraps the cause three times, and leaves one open."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(_TIMEOUT_S)
        try:
            link.connect(path)
        except PermissionError:
            raise Unavailable(
                f"no way to the Docker daemon: this user may not open {path}. Join the group "
                "docker (`sudo usermod -aG docker $USER`, then log in again), or run as root; "
                "note that either is as good as root."
            ) from None
        except OSError as error:
            raise Unavailable(
                f"no Docker daemon answers at {path} ({error}). Install it (Debian: "
                "`apt-get install docker.io`) and start it (`systemctl start docker`, or `dockerd "
                "&` as root where there is no systemd); one elsewhere is named by DOCKER_HOST."
            ) from None
