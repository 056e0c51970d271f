"""One container: its walls, its supervisor behind a stream, its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import SandboxError
from ..box import START_TIMEOUT_S, BoxLost
from ..bundle import ENVIRONMENT, bundle, command, guest_config
from ..core import Limits
from ..guest import frames
from .meter import CgroupMeter
from .options import DockerOptions
from .owner import GONE, labels
from .stream import AttachedStream

if TYPE_CHECKING:
    from docker.client import DockerClient

_CAPABILITIES = ("KILL", "SETGID", "SETUID")
"""Of supervisor and zygote, which make a candidate another user and kill it; it has none itself."""
_OWN_MEMORY_BYTES = 32 * 2**20
"""For supervisor and zygote; both are 16 MiB, most of it shared."""
_OWN_PROCESSES = 2
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys"),
)
"""Docker's own list, and all of /sys: its devices and cgroups are no candidate's business."""
_SCRATCH = ("/tmp", "/dev/shm", "/dev/mqueue")


@dataclass(frozen=True, slots=True)
class Shape:
    """The limits that a container is made with, and has for life."""

    memory_bytes: int
    disk_bytes: int
    max_processes: int

    @classmethod
    def of(cls, limits: Limits) -> Shape:
        """The shape that holds runs of these limits."""
        return cls(limits.memory_bytes, limits.disk_bytes, limits.max_processes)


@dataclass(frozen=True, slots=True)
class Guest:
    """What is the same for all containers of a tier."""

    options: DockerOptions
    python: str
    preload: tuple[str, ...]
    seccomp: str | None
    """A BPF program in base64."""
    counts_processes: bool
    """Whether the daemon can bound the processes of a container."""
    sandbox: str
    """Name of the sandbox, for the labels."""


class Container:
    """Made, started and ready once the constructor returns."""

    def __init__(self, client: DockerClient, guest: Guest, shape: Shape, uid: int) -> None:
        """Start a container whose candidates are the user `uid`.

        Raises:
            SandboxError: The daemon would not make it, or its supervisor did not start.
        """
        self.shape = shape
        self.id = ""
        self._api = client.api
        try:
            self.id = str(self._api.create_container(**_description(self._api, guest, shape))["Id"])
            attached = self._api.attach_socket(
                self.id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            )
            self.stream = AttachedStream(attached)
            self._api.start(self.id)
        except OSError as error:
            self.remove()
            raise SandboxError(f"a container did not start: {_why(error)}") from error
        try:
            self._greet(guest, uid)
            pid = self._api.inspect_container(self.id)["State"]["Pid"]
            self.meter = CgroupMeter.of(pid, self.id)
        except (BoxLost, frames.FrameError, OSError) as error:
            said = self.stream.stderr.decode(errors="replace").strip()
            self.end()
            raise SandboxError(
                f"the supervisor of a container did not start: {said or error}"
            ) from None

    def _greet(self, guest: Guest, uid: int) -> None:
        """Send the guest's source, wait for its hello."""
        config = guest_config(
            uid=uid,
            is_alone=True,
            drop_capabilities=True,
            seccomp=guest.seccomp,
            counts_processes=guest.counts_processes,
            wipe=list(_SCRATCH),
            preload=list(guest.preload),
            dies_with_parent=False,  # its parent is the daemon's business
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        self.stream.send(bundle("supervisor", config), deadline)
        kind, said = frames.FrameReader().wait(lambda: self.stream.receive(deadline))
        if kind != frames.HELLO:
            raise frames.FrameError(said[:500].decode(errors="replace"))

    def end(self) -> None:
        """Close the stream, which ends it, and remove it; twice is once."""
        self.stream.close()
        self.remove()

    def remove(self) -> None:
        """Kill and remove it; one that is gone is no error.

        Raises:
            SandboxError: The daemon refuses, or does not answer.
        """
        if not self.id:
            return  # it was never made
        try:
            self._api.remove_container(self.id, force=True)
        except OSError as error:
            if getattr(error, "status_code", None) not in GONE:
                raise SandboxError(f"a container cannot be removed: {_why(error)}") from error


def _why(error: OSError) -> str:
    """What the daemon explained, or how the request to it failed: the SDK raises both as these."""
    return getattr(error, "explanation", None) or str(error)


def _description(api: Any, guest: Guest, shape: Shape) -> dict[str, Any]:
    """What the daemon is asked for."""
    from docker.types.containers import LogConfig, Ulimit

    memory = shape.memory_bytes + _OWN_MEMORY_BYTES
    scratch = f"size={shape.disk_bytes},nr_inodes={shape.disk_bytes // 4096 + 16},mode=1777"
    host = api.create_host_config(
        auto_remove=True,
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        cap_add=list(_CAPABILITIES),
        security_opt=["no-new-privileges"],
        pids_limit=shape.max_processes + _OWN_PROCESSES,
        mem_limit=memory,
        memswap_limit=memory,  # memory and swap together, so no swap
        nano_cpus=int(guest.options.cpus * 1e9),
        tmpfs=dict.fromkeys(("/tmp", "/dev/shm"), f"{scratch},nosuid,nodev"),
        ipc_mode="private",
        ulimits=[
            Ulimit(name="core", soft=0, hard=0),
            Ulimit(name="nofile", soft=1024, hard=1024),
        ],
        log_config=LogConfig(type="none"),
        runtime=guest.options.runtime,
    )
    host["MaskedPaths"] = list(_MASKED)
    return {
        "image": guest.options.image,
        "command": command(guest.python, 0, 1),
        "entrypoint": [],
        "environment": ENVIRONMENT,
        "user": "0:0",
        "working_dir": "/",
        "stdin_open": True,  # and closed for good when the one who attached goes
        "tty": False,
        "network_disabled": True,
        "labels": labels(guest.sandbox),
        "host_config": host,
    }
