"""Whose containers there are: labels that name their owner, and the end of those who have none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "turnhalle"
"""On every container of ours, with the value "sandbox"."""
_OWNER = "turnhalle.owner"
"""Process id and the moment it started, for ids are used again."""
_WORLD = "turnhalle.owner.world"
"""Boot and PID namespace in which that id means something."""


def labels() -> dict[str, str]:
    """What is written on a container of this process."""
    return {LABEL: "sandbox", _OWNER: f"{os.getpid()} {_started_at(os.getpid())}", _WORLD: _world()}


def remove_orphans(client: DockerClient) -> int:
    """Remove containers whose owner lived in this world and is gone; gives how many."""
    import docker

    filters = {"label": [f"{LABEL}=sandbox", f"{_WORLD}={_world()}"]}
    count = 0
    for found in client.api.containers(all=True, filters=filters):
        pid, _, started_at = found["Labels"][_OWNER].partition(" ")
        if _started_at(int(pid)) == started_at:
            continue
        with suppress(docker.errors.APIError):  # it was about to end by itself
            client.api.remove_container(found["Id"], force=True)
            count += 1
    return count


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
