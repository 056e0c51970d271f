"""The walls that are put up inside a box, chosen by its configuration.

Only the supervisor of a run and its candidate go behind them; the zygote stays outside, where no
candidate sees it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import shutil
from typing import Any

from . import linux, processes

_ALL_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET
_TMPFS = linux.MS_NOSUID | linux.MS_NODEV


def enter_new_pid_namespace(own_namespace: int) -> None:
    """Make the next child of this process the first of a fresh PID namespace.

    A process may only unshare from its own namespace, so it goes back there first.
    """
    linux.setns(own_namespace, linux.CLONE_NEWPID)
    linux.unshare(linux.CLONE_NEWPID)


def stage(config: dict[str, Any]) -> None:
    """What a supervisor does before its candidate is forked."""
    os.setsid()
    linux.die_with_parent()
    linux.adopt_orphans()
    if config["namespaces"]:
        linux.unshare(_ALL_NAMESPACES)
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        try:
            linux.mount("proc", "/proc", "proc", flags, "subset=pid")
        except OSError:  # before Linux 5.8
            linux.mount("proc", "/proc", "proc", flags)
    linux.set_dumpable(False)
    linux.forbid_new_privileges()


def confine(config: dict[str, Any]) -> None:
    """The walls around the candidate, before it knows what to run."""
    _become(config)
    os.setsid()  # a process group reaches across PID namespaces
    linux.die_with_parent()
    linux.set_dumpable(True)  # or what /proc says of it would belong to root
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", b"1000")
    if config["drop_capabilities"]:
        linux.drop_capabilities()
    if config["landlock"]:
        linux.landlock(*config["landlock"])
    if config["seccomp"]:
        linux.load_seccomp(base64.b64decode(config["seccomp"]))


def close_in(config: dict[str, Any], limits: dict[str, Any]) -> None:
    """What a supervisor does once the limits are known: sized folders, then no rights."""
    if config["namespaces"]:
        size = limits["disk_bytes"]
        options = f"size={size},nr_inodes={size // 4096 + 16},mode=1777"
        for folder in ("/tmp", "/dev/shm"):
            linux.mount("tmpfs", folder, "tmpfs", _TMPFS, options)
    if config["drop_capabilities"] and config["uid"] is None:
        linux.drop_capabilities()


def bound(config: dict[str, Any], limits: dict[str, Any]) -> None:
    """What the candidate does itself, last of all: its place and its limits."""
    os.chdir(config["workdir"])
    _set_limits(config, limits)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _become(config: dict[str, Any]) -> None:
    """Take the candidate's own user, where it has one apart from the supervisor's."""
    if config["uid"] is not None:
        os.setgroups([])
        os.setresgid(config["uid"], config["uid"], config["uid"])
        os.setresuid(config["uid"], config["uid"], config["uid"])


def _set_limits(config: dict[str, Any], limits: dict[str, Any]) -> None:
    seconds = int(limits["cpu_s"]) + 1
    wanted = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: limits["memory_bytes"] + _own_size(),
        resource.RLIMIT_FSIZE: limits["disk_bytes"],
        resource.RLIMIT_NOFILE: limits["max_open_files"],
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 2**16,
    }
    if config["counts_processes"]:
        # Of this user: beside the candidate's own there are zygote and supervisor.
        wanted[resource.RLIMIT_NPROC] = limits["max_processes"] + config["other_processes"]
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # A second between soft and hard: SIGXCPU names the reason where nothing ignores it.
        is_cpu = kind == resource.RLIMIT_CPU and (hard == resource.RLIM_INFINITY or value < hard)
        resource.setrlimit(kind, (value, value + is_cpu))


def _own_size() -> int:
    fd = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(fd, 100).split()[0]) * resource.getpagesize()
    finally:
        os.close(fd)


def sweep(config: dict[str, Any], candidate: int) -> int:
    """Kill all that a candidate left; gives how many there were beside itself.

    A dead one that nobody waited for counts: whether it ended before we looked is chance.
    """
    me = os.getpid()
    left = len({each.pid for each in processes.descendants(me)} - {candidate})
    if config["is_alone"] or (left and config["namespaces"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, 9)  # at once, but itself and the first of the PID namespace
    elif config["uid"] is not None:
        _as_candidate(config, lambda: os.kill(-1, 9))
    if left:
        processes.kill_below(me)
    return left


def wipe(config: dict[str, Any]) -> bool:
    """Remove the files that a candidate left, where its folders outlive the run.

    Gives whether it was possible, and nothing else is left that the next run could find.
    """
    if any(map(os.listdir, config["wipe"])):
        if config["uid"] is None:
            _empty(config["wipe"])
        else:
            _as_candidate(config, lambda: _empty(config["wipe"]))
        if any(map(os.listdir, config["wipe"])):
            return False
    return not (config["is_alone"] and _has_system_v())


def _has_system_v() -> bool:
    """Whether there is memory, a queue or a semaphore that outlives its processes."""
    for kind in ("shm", "msg", "sem"):
        with open(f"/proc/sysvipc/{kind}", encoding="ascii") as file:
            if len(file.readlines()) > 1:
                return True
    return False


def _empty(folders: list[str]) -> None:
    # shutil never follows a link when it removes a tree.
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    os.chmod(entry.path, 0o700)
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _as_candidate(config: dict[str, Any], what: Any) -> None:
    """Do something with the candidate's rights, in a child."""
    child = os.fork()
    if child == 0:
        try:
            _become(config)
            what()
        finally:
            os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
