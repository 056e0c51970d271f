"""The walls that are put up inside a box, chosen by its configuration.

Only the supervisor of a run and its candidate go behind them; the zygote stays outside, where no
candidate sees it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from typing import Any

from . import linux, processes

_ALL_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET
_NOTHING = linux.MS_NOSUID | linux.MS_NODEV
"""Neither setuid programs nor devices."""


def enter_new_pid_namespace(own_namespace: int) -> None:
    """Make the next child of this process the first of a fresh PID namespace.

    A process may only unshare from its own namespace, so it goes back there first.
    """
    linux.setns(own_namespace, linux.CLONE_NEWPID)
    linux.unshare(linux.CLONE_NEWPID)


def stage(config: dict[str, Any], disk_bytes: int) -> None:
    """What an attendant does before its candidate is forked, and is behind itself from then on."""
    linux.die_with_parent()
    if config["namespaces"]:
        linux.unshare(_ALL_NAMESPACES)
        _mount(disk_bytes)
    else:
        linux.adopt_orphans()
    _give_up(config)


def confine(config: dict[str, Any]) -> None:
    """The walls around the candidate alone."""
    if config["is_alone"]:  # its attendant is the zygote, which gives nothing up
        _become(config["uid"])
        _give_up(config)
    os.setsid()  # a process group reaches across PID namespaces
    linux.die_with_parent()
    linux.set_dumpable(True)  # or what /proc says of it would belong to root
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", b"1000")
    if config["landlock"]:
        linux.landlock(*config["landlock"])


def _mount(disk_bytes: int) -> None:
    """A /proc of the new PID namespace, and the only folders where anything can be written."""
    flags = _NOTHING | linux.MS_NOEXEC
    try:
        linux.mount("proc", "/proc", "proc", flags, "subset=pid")
    except OSError:  # before Linux 5.8
        linux.mount("proc", "/proc", "proc", flags)
    options = f"size={disk_bytes},nr_inodes={disk_bytes // 4096 + 16},mode=1777"
    for folder in ("/tmp", "/dev/shm"):
        linux.mount("tmpfs", folder, "tmpfs", _NOTHING, options)


def _give_up(config: dict[str, Any]) -> None:
    """No rights, and no dangerous system calls."""
    if config["drop_capabilities"]:
        linux.drop_capabilities()
    if config["seccomp"]:
        config["seccomp"].load()


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


def _become(uid: int | None) -> None:
    """Take the candidate's own user, where it has one apart from the supervisor's."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


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
    if config["other_processes"] is not None:
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


def end_others(config: dict[str, Any]) -> None:
    """Kill all that a candidate left; its attendant, who calls this, waits for them."""
    try:
        if config["namespaces"] or config["is_alone"]:
            os.kill(-1, signal.SIGKILL)  # at once, but itself and the first of the PID namespace
        else:
            # Orphans become its own children, so without a child there is no need of the walk.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            processes.kill_below(os.getpid())
    except (ProcessLookupError, ChildProcessError):
        return  # there are none


def wipe(config: dict[str, Any]) -> bool:
    """Remove the files that a candidate left, where its folders outlive the run.

    Gives whether it was possible, and nothing else is left that the next run could find.
    """
    if any(map(os.listdir, config["wipe"])):
        _empty(config["wipe"], config["uid"])
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


def _empty(folders: list[str], uid: int | None) -> None:
    """Remove what is in folders, with the rights of the candidate, in a child."""
    child = os.fork()
    if child == 0:
        try:
            _become(uid)
            for folder in folders:
                _remove_all(folder)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _remove_all(folder: str) -> None:
    import shutil  # heavy: the zygote does without

    # shutil never follows a link when it removes a tree.
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):
                os.chmod(entry.path, 0o700)
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
