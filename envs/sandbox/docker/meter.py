"""What the control groups of a container say, read from outside, where this machine is the host."""

from __future__ import annotations

import re
from pathlib import Path

from ..box import Meter

_ROOT = Path("/sys/fs/cgroup")
_FILES = {"memory": ("memory.oom_control", "memory.events"), "pids": ("pids.events",)}
_LINES = {"memory": r"^oom_kill (\d+)", "pids": r"^max (\d+)"}


class CgroupMeter:
    """Counts processes that the kernel killed for memory, or refused to make, in one container."""

    def __init__(self, files: dict[str, Path]) -> None:
        """Count by these files, of "memory" and "pids"; there are none where it cannot be known."""
        self._files = files
        self._before: dict[str, int] = {}

    @classmethod
    def of(cls, pid: int, container: str) -> CgroupMeter:
        """Count for a container by its first process.

        A daemon elsewhere gives an id that means another process here, or none: what counts is
        whether the groups have the container's name.
        """
        files: dict[str, Path] = {}
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        except OSError:
            return cls(files)
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            if container not in path:
                continue
            for kind, names in _FILES.items():
                if controllers in ("", kind):
                    folder = _ROOT / controllers / path.lstrip("/")
                    for name in names:
                        if (folder / name).is_file():
                            files[kind] = folder / name
        return cls(files)

    def begin(self) -> None:
        """A run begins."""
        self._before = self._counts()

    def read(self) -> Meter:
        """What was counted since."""
        now = self._counts()
        since = {kind: count - self._before.get(kind, 0) for kind, count in now.items()}
        return Meter(
            num_oom_kills=since.get("memory", 0), num_refused_processes=since.get("pids", 0)
        )

    def _counts(self) -> dict[str, int]:
        found = {}
        for kind, path in self._files.items():
            try:
                match = re.search(_LINES[kind], path.read_text(encoding="ascii"), re.MULTILINE)
            except OSError:
                continue  # the container has just ended, which the stream says too
            found[kind] = int(match[1]) if match else 0
        return found
