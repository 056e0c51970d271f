"""A cgroup for each slot where this machine lets us make one: bounds and measures whole boxes.

Both versions: v1 has a hierarchy for each controller, v2 one for all. Where neither can be written
the limits of single processes remain, and the tier's record says so.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

from .box import Meter
from .core import Limits

_ROOT = Path("/sys/fs/cgroup")
_V1 = ("memory", "pids", "cpuacct")
_OVERHEAD_BYTES = 48 * 2**20
"""For supervisor, zygote and attendant, beside what a candidate may have."""
_OVERHEAD_PROCESSES = 8
"""Supervisor, zygote, attendants, bwrap; the candidate's own are held by RLIMIT_NPROC."""


@cache
def homes() -> dict[str, Path]:
    """Where cgroups can be made: controllers to folder; empty where they cannot."""
    names = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            names[controller] = path.lstrip("/")
    v1 = {name: _ROOT / name / names[name] for name in _V1 if name in names}
    if len(v1) == len(_V1):
        return v1 if all(_is_writable(path) for path in v1.values()) else {}
    own = _ROOT / names.get("", "")
    for folder in (own, own.parent):
        if folder.is_relative_to(_ROOT) and _delegates(folder) and _is_writable(folder):
            return {"": folder}
    return {}


def _is_writable(folder: Path) -> bool:
    probe = folder / f"turnhalle-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


def _delegates(folder: Path) -> bool:
    """Whether the children of a v2 cgroup have memory and pids; switched on where allowed."""
    control = folder / "cgroup.subtree_control"
    with contextlib.suppress(OSError):
        control.write_text("+memory +pids +cpu", encoding="ascii")
    with contextlib.suppress(OSError):
        return {"memory", "pids"} <= set(control.read_text(encoding="ascii").split())
    return False


class Cgroup:
    """The cgroup of one box; `folders` are what its processes enter."""

    def __init__(self, name: str) -> None:
        self._by_controller = {key: home / name for key, home in homes().items()}
        self._is_v2 = "" in self._by_controller
        self.folders = [str(folder) for folder in self._by_controller.values()]
        self._bound: Limits | None = None
        self._fds: dict[str, int] = {}
        self._before = (0, 0, 0, 0)
        for folder in self._by_controller.values():
            folder.mkdir(exist_ok=True)

    def remove(self) -> None:
        """Remove it; its processes are gone."""
        while self._fds:
            os.close(self._fds.popitem()[1])
        for folder in self.folders:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(folder)

    def prepare(self, limits: Limits) -> None:
        """Bound the next run, and remember where its counters begin."""
        if limits != self._bound:
            self._bound_memory(limits.memory_bytes + limits.disk_bytes + _OVERHEAD_BYTES)
            self._write("pids", "pids.max", str(limits.max_processes + _OVERHEAD_PROCESSES))
            self._bound = limits
        if not self._is_v2:
            self._write("memory", "memory.max_usage_in_bytes", "0")
        self._before = self._counters()

    def _bound_memory(self, num_bytes: int) -> None:
        if self._is_v2:
            self._write("memory", "memory.max", str(num_bytes))
            with contextlib.suppress(FileNotFoundError):  # a kernel may lack accounting of swap
                self._write("memory", "memory.swap.max", "0")
            return
        names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        # Memory may never be above memory and swap together: what grows, grows there first.
        if num_bytes > int(self._read("memory", names[0])):
            names.reverse()
        for name in names:
            if (self._by_controller["memory"] / name).exists():
                self._write("memory", name, str(num_bytes))

    def measure(self) -> Meter:
        """What the run used, counted by the kernel for all its processes together."""
        cpu, _, kills, refusals = self._counters()
        cpu_before, memory_before, kills_before, refusals_before = self._before
        peak = self._peak()
        return Meter(
            cpu_s=(cpu - cpu_before) / 1e9,
            max_memory_bytes=None if peak is None else max(0, peak - memory_before),
            num_oom_kills=kills - kills_before,
            num_refused_processes=refusals - refusals_before,
        )

    def _counters(self) -> tuple[int, int, int, int]:
        """CPU-nanoseconds, bytes now, processes killed for memory, processes refused."""
        refused = _field(self._read("pids", "pids.events"), "max")
        if self._is_v2:
            cpu = 1000 * _field(self._read("", "cpu.stat"), "usage_usec")
            now = int(self._read("", "memory.current"))
            return cpu, now, _field(self._read("", "memory.events"), "oom_kill"), refused
        killed = _field(self._read("memory", "memory.oom_control"), "oom_kill")
        now = int(self._read("memory", "memory.usage_in_bytes"))
        return int(self._read("cpuacct", "cpuacct.usage")), now, killed, refused

    def _peak(self) -> int | None:
        # memory.peak of v2 cannot be set back before Linux 6.12, so it would be an earlier run's.
        return None if self._is_v2 else int(self._read("memory", "memory.max_usage_in_bytes"))

    def _fd(self, controller: str, name: str) -> int:
        """A file of the cgroup, kept open: these are read and written around every run."""
        if name not in self._fds:
            path = self._by_controller["" if self._is_v2 else controller] / name
            mode = os.O_RDWR if os.stat(path).st_mode & 0o200 else os.O_RDONLY
            self._fds[name] = os.open(path, mode | os.O_CLOEXEC)
        return self._fds[name]

    def _read(self, controller: str, name: str) -> str:
        return os.pread(self._fd(controller, name), 4096, 0).decode("ascii")

    def _write(self, controller: str, name: str, value: str) -> None:
        os.pwrite(self._fd(controller, name), value.encode("ascii"), 0)


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0
