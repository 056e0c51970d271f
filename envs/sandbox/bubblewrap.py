"""Tier A: bubblewrap makes the slot's walls, a zygote in it fresh namespaces for every run.

What bubblewrap alone leaves open, and what closes it here: run by root it leaves `/proc/sys`
writable, so a box is started as a user of its own; its reaper keeps the environment it was started
with, so that is empty; its tmpfs are unlimited, so they are remounted read-only below sized ones;
process groups reach across PID namespaces, so every run has its own session; and a zygote in the
same namespace could be poisoned, so a candidate never shares one with it.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess

from ..errors import SandboxUnavailableError
from .box import Box, Tier
from .bundle import bundle, command, guest_config
from .cgroups import homes
from .core import PER_PROCESS, Isolation
from .interpreters import find
from .keeper import Keeper, Started
from .options import SandboxOptions
from .owned import OWN_PROCESSES, OwnedBox
from .seccomp import program

_INNER_UID = "1000"
_DEVICES = ("null", "zero", "full", "random", "urandom")
_TOP = ("bin", "sbin", "lib", "lib32", "lib64")
NO_CGROUP = (
    f"{PER_PROCESS}: a box may use max_processes times as much",
    "CPU time and memory are measured by the box's supervisor, not by the kernel for the whole box",
)


class BubblewrapTier(Tier):
    """Boxes of bubblewrap."""

    def __init__(self, options: SandboxOptions) -> None:
        self._bwrap = _find_bwrap()
        self.recycle_after = options.recycle_after
        self.options = options
        self.seccomp = base64.b64encode(program(True)).decode()
        self.isolation = Isolation("bubblewrap", () if homes() else NO_CGROUP)
        self.keeper = Keeper()  # last: it is a process, and starts while others are looked for

    def make_box(self) -> Box:
        """See `Tier.make_box`."""
        return _BubblewrapBox(self)

    def argv(self, uid: int | None) -> list[str]:
        """The command that makes a slot's walls and starts its supervisor.

        Its arguments can be read inside (`/proc/1/cmdline`), so there is nothing secret in them.
        """
        python, prefix = find(self.options.python, uid)
        flags = "--unshare-all --unshare-user --die-with-parent --new-session --as-pid-1 --clearenv"
        walls = [self._bwrap, *flags.split(), "--uid", _INNER_UID, "--gid", _INNER_UID]
        walls += ["--hostname", "box", "--cap-drop", "ALL"]
        # Only for the zygote, which makes each run's namespaces; candidates have none.
        walls += ["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP"]
        walls += ["--setenv", "PYTHONHASHSEED", "0", "--ro-bind", "/usr", "/usr"]
        for name in _TOP:
            if os.path.islink(f"/{name}"):
                walls += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
            elif os.path.isdir(f"/{name}"):
                walls += ["--ro-bind", f"/{name}", f"/{name}"]
        if not prefix.startswith("/usr"):
            walls += ["--ro-bind", prefix, prefix]
        walls += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc"]
        # Not --dev: for its devpts bwrap would nest two user namespaces, and the zygote's rights
        # in the inner one would not reach the PID namespace, which belongs to the outer.
        walls += ["--size", "65536", "--tmpfs", "/dev", "--dir", "/dev/shm"]
        for name in _DEVICES:
            walls += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            walls += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
        walls += ["--symlink", "/proc/self/fd", "/dev/fd"]
        walls += ["--size", "4096", "--tmpfs", "/tmp", "--chdir", "/tmp"]
        walls += ["--remount-ro", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/", "--"]
        return [*walls, *command(python, 3, 3)]

    def close(self) -> None:
        """End the keeper."""
        self.keeper.close()


class _BubblewrapBox(OwnedBox):
    def __init__(self, tier: BubblewrapTier) -> None:
        super().__init__(tier.keeper)
        self._tier = tier

    def _launch(self) -> tuple[Started, bytes]:
        uid, folders = self._take(self._tier.options.first_uid)
        started = self._keeper.start(
            self._tier.argv(uid), uid=uid, cgroups=folders, remains=folders
        )
        config = guest_config(
            namespaces=True,
            drop_capabilities=True,
            seccomp=self._tier.seccomp,
            counts_processes=True,
            other_processes=OWN_PROCESSES,
            preload=self._tier.options.preloaded(),
        )
        return started, bundle("supervisor", config)


def _find_bwrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise SandboxUnavailableError("bwrap is not installed: apt-get install bubblewrap")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < (0, 5):
        raise SandboxUnavailableError(f"{path} is {said.strip()!r}: 0.5 or newer is needed")
    return os.path.realpath(path)
