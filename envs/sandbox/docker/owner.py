"""Whose containers there are: labels that name their owner, and the end of those who have none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import SandboxError

if TYPE_CHECKING:
    from docker.client import DockerClient

LABEL = "turnhalle"
"""On every container of ours, with the value "sandbox"."""
GONE = (404, 409)
"""Answers to the wish to remove what is gone, or just going."""
_SANDBOX = "turnhalle.sandbox"
"""Which sandbox of its owner it belongs to."""
_OWNER = "turnhalle.owner"
"""Process id and the moment it started, for ids are used again."""
_WORLD = "turnhalle.owner.world"
"""Boot and PID namespace in which that id means something."""


def labels(sandbox: str) -> dict[str, str]:
    """What is written on a container that this process makes for one of its sandboxes."""
    owner = f"{os.getpid()} {_started_at(os.getpid())}"
    return {LABEL: "sandbox", _SANDBOX: sandbox, _OWNER: owner, _WORLD: _world()}


def remove_orphans(client: DockerClient) -> int:
    """Remove containers whose owner lived in this world and is gone; gives how many."""
    import docker

    filters = {"label": [f"{LABEL}=sandbox", f"{_WORLD}={_world()}"]}
    count = 0
    for found in client.api.containers(all=True, filters=filters):
        pid, _, started_at = found["Labels"][_OWNER].partition(" ")
        if _started_at(int(pid)) == started_at:
            continue
        with suppress(docker.errors.APIError):  # it was about to end by itself, or is another's
            client.api.remove_container(found["Id"], force=True)
            count += 1
    return count


def remove_all(client: DockerClient, sandbox: str) -> None:
    """Remove every container that one sandbox made and that is still there.

    Raises:
        SandboxError: One does not go.
    """
    import docker

    for found in client.api.containers(all=True, filters={"label": f"{_SANDBOX}={sandbox}"}):
        try:
            client.api.remove_container(found["Id"], force=True)
        except docker.errors.APIError as error:
            if error.status_code not in GONE:
                raise SandboxError(f"a container does not go: {error.explanation}") from error


def _started_at(pid: int) -> str:
    """When a process started, in ticks since boot; empty where there is none, or a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *rest = fields[fields.rindex(")") + 2 :].split()
    return "" if state in "ZX" else rest[18]


def _world() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
