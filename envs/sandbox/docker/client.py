"""The way to a Docker daemon, with an error that says what to do where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ConfigError
from ...errors import SandboxUnavailableError as Unavailable

if TYPE_CHECKING:
    from docker import DockerClient

DAEMON_TIMEOUT_S = 60
"""How long one request to the daemon may take: a busy daemon needs seconds to make a container."""


def connect() -> DockerClient:
    """Connect to the daemon that `DOCKER_HOST` names, else to `/var/run/docker.sock`.

    Raises:
        ConfigError: If the Python package `docker` is not installed.
        SandboxUnavailableError: If no daemon answers, or it may not be talked to.
    """
    try:
        import docker
    except ImportError:
        raise ConfigError(
            "the Docker tier needs the package docker: pip install 'turnhalle[docker]'"
        ) from None
    try:
        client = docker.from_env(timeout=DAEMON_TIMEOUT_S)
        client.ping()
    except docker.errors.DockerException as error:
        raise Unavailable(f"no Docker daemon: {_explain(error)}") from error
    return client


def _explain(error: Exception) -> str:
    """What failed and what mends it: the SDK wraps the cause in three layers of its own."""
    text = str(error)
    if "Permission denied" in text or "PermissionError" in text:
        return (
            "the socket of the daemon may not be opened by this user. Join the group docker "
            "(`sudo usermod -aG docker $USER`, then log in again), or run as root; note that "
            "either is as good as root."
        )
    if "No such file" in text or "FileNotFoundError" in text or "Connection refused" in text:
        return (
            "nothing answers. Install it (Debian: `apt-get install docker.io`) and start it "
            "(`systemctl start docker`, or `dockerd &` as root where there is no systemd); "
            f"a daemon elsewhere is named by DOCKER_HOST. ({text})"
        )
    return text
