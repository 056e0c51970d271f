"""Tier C, chosen by name only: Landlock, seccomp and limits, for places without namespaces.

It keeps a program from the network, from files outside a few folders, from signalling and tracing
others, and from the same system calls as the other tiers. It does not hide: see `GAPS`.
"""

from __future__ import annotations

import base64
import os
import tempfile

from ..errors import SandboxUnavailableError
from .box import Box, Tier
from .bundle import bundle, command, guest_config
from .cgroups import homes
from .core import PER_PROCESS, Isolation
from .guest import linux
from .interpreters import find
from .keeper import Keeper, Started
from .options import SandboxOptions
from .owned import OWN_PROCESSES, OwnedBox
from .seccomp import program

MIN_ABI = 6
"""The first version of Landlock that keeps signals and abstract sockets inside (Linux 6.12)."""
GAPS = (
    "which processes exist on this machine can be found out",
    "files written are bounded one by one, not together",
)
_NOT_ROOT = "processes run as your own user, and are counted late"

_EXECUTE, _READ_FILE, _READ_DIR, _REFER = 1 << 0, 1 << 2, 1 << 3, 1 << 13
_WRITE_FILE, _IOCTL_DEVICE = 1 << 1, 1 << 15
_ALL_FILES = (1 << 16) - 1
_SPECIAL = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11
"""Making character devices, sockets, FIFOs' kin and block devices: never needed, never allowed."""
_ALL_NETWORK = 0b11
_ALL_SCOPES = 0b11
"""No abstract UNIX sockets and no signals but to processes of one's own."""
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OWN = _ALL_FILES & ~(_SPECIAL | _REFER | _IOCTL_DEVICE | _EXECUTE)
_TO_READ = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/self")


class LandlockTier(Tier):
    """Boxes of Landlock."""

    def __init__(self, options: SandboxOptions) -> None:
        abi = linux.landlock_abi()
        if abi < MIN_ABI:
            raise SandboxUnavailableError(
                f"the kernel has version {abi} of Landlock, {MIN_ABI} is needed (Linux 6.12 with "
                "landlock in CONFIG_LSM or in the boot option lsm=)"
            )
        self.recycle_after = options.recycle_after
        self.options = options
        self.seccomp = base64.b64encode(program(False)).decode()
        not_root = () if os.geteuid() == 0 else (_NOT_ROOT,)
        per_process = () if homes() else (PER_PROCESS,)
        self.isolation = Isolation("landlock", (*GAPS, *not_root, *per_process))
        self.keeper = Keeper()  # last: it is a process, and starts while others are looked for

    def make_box(self) -> Box:
        """See `Tier.make_box`."""
        return _LandlockBox(self)

    def close(self) -> None:
        """End the keeper."""
        self.keeper.close()


class _LandlockBox(OwnedBox):
    def __init__(self, tier: LandlockTier) -> None:
        super().__init__(tier.keeper)
        self._tier = tier
        self._folder: str | None = None

    def _launch(self) -> tuple[Started, bytes]:
        uid, cgroups = self._take(self._tier.options.first_uid)
        self._folder = tempfile.mkdtemp(prefix=f"turnhalle-{os.getpid()}-")
        if uid is not None:
            os.chown(self._folder, uid, uid)
        python, prefix = find(self._tier.options.python, uid)
        started = self._keeper.start(
            command(python, 3, 3), uid=uid, cgroups=cgroups, remains=[self._folder, *cgroups]
        )
        config = guest_config(
            landlock=_rules(self._folder, prefix),
            drop_capabilities=True,
            seccomp=self._tier.seccomp,
            counts_processes=uid is not None,
            other_processes=None if uid is None else OWN_PROCESSES,
            workdir=self._folder,
            wipe=[self._folder],
            preload=self._tier.options.preloaded(),
        )
        return started, bundle("supervisor", config)

    def end(self) -> None:
        super().end()
        if self._folder is not None:
            self._keeper.remove([self._folder])
            self._folder = None


def _rules(folder: str, prefix: str) -> tuple[list[int], list[tuple[str, int]]]:
    """The words of the ruleset (files, network, scopes), and what paths allow."""
    readable = [path for path in (*_TO_READ, prefix) if os.path.exists(path)]
    rules = [(path, _access(path)) for path in readable]
    for name in ("null", "zero", "full", "random", "urandom"):
        rules.append((f"/dev/{name}", _READ_FILE | _WRITE_FILE))
    return [_ALL_FILES, _ALL_NETWORK, _ALL_SCOPES], [*rules, (folder, _OWN)]


def _access(path: str) -> int:
    return _READ if os.path.isdir(path) else _READ_FILE | _EXECUTE
