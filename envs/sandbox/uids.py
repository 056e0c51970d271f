"""A kernel user for each box where root starts them, held by nobody else on this machine."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from ..errors import SandboxError

_FOLDER = Path("/run/turnhalle-uids")
_COUNT = 1000


class Uid:
    """A user id and the lock that says it is taken; the kernel lets go of it with this process."""

    def __init__(self, first: int) -> None:
        folder = _folder()
        for number in range(first, first + _COUNT):
            lock = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                continue
            self.number, self._lock = number, lock
            return
        raise SandboxError(f"all users from {first} to {first + _COUNT - 1} are taken by sandboxes")

    def release(self) -> None:
        """Let another box have it."""
        os.close(self._lock)


def _folder() -> Path:
    """A folder that only root can write."""
    _FOLDER.mkdir(mode=0o700, exist_ok=True)
    found = os.lstat(_FOLDER)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
        raise SandboxError(f"{_FOLDER} is not a folder of root's: remove it")
    return _FOLDER
