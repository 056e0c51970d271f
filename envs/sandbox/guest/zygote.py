"""A warm interpreter that forks a supervisor for every run, and never sees what is run.

The next supervisor is forked and staged while the host is busy with the last result, so that its
cost is not part of a run's latency.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
from typing import Any

from . import driver, frames, isolate, linux, processes, supervisor


def main(read_fd: int, write_fd: int, config: dict[str, Any]) -> int:
    """Fork supervisors until the host is gone, or one is lost."""
    control = _take_away(read_fd, write_fd)
    if config["dies_with_parent"]:
        linux.die_with_parent()
    linux.adopt_orphans()
    for name in config["preload"]:
        importlib.import_module(name)
    driver.dress(config["workdir"])
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY) if config["namespaces"] else -1
    linux.set_dumpable(False)
    if config["drop_capabilities"]:
        linux.drop_bounding_set()
    gc.collect()
    gc.freeze()
    control.send(frames.HELLO, str(os.getpid()).encode())
    try:
        return _serve_all(control, config, own_namespace)
    except OSError as error:
        control.send(frames.LOST, f"the zygote failed: {error}".encode())
        return 1


def _serve_all(control: frames.Link, config: dict[str, Any], own_namespace: int) -> int:
    while True:
        if config["namespaces"]:
            isolate.enter_new_pid_namespace(own_namespace)
        code = _serve(control, config)
        if code == supervisor.GONE:
            return 0
        if code != 0:  # the host makes a new box
            processes.kill_below(os.getpid())
            control.send(frames.LOST, f"the supervisor ended with {code}".encode())
            return 1


def _take_away(read_fd: int, write_fd: int) -> frames.Link:
    """Move the control descriptors away from 0, 1 and 2, which become nothing; close the rest."""
    fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (read_fd, write_fd)]
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.closerange(3, min(fds))
    os.closerange(max(fds) + 1, os.sysconf("SC_OPEN_MAX"))
    return frames.Link(*fds)


def _serve(control: frames.Link, config: dict[str, Any]) -> int:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = supervisor.Supervisor(control, config).serve()
        except BaseException as error:
            control.send(frames.LOST, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status)
