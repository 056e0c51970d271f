"""System calls that no candidate may make, as a BPF program made by libseccomp.

A deny list: an allow list that holds Python, numpy and whatever people preload breaks with every
glibc. What is denied gives EPERM; `clone3` gives ENOSYS, because its flags lie in memory that a
filter cannot read, and every libc then falls back to `clone`, whose flags it can. Calls of another
architecture kill.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import cache
from typing import Any

from ..errors import SandboxUnavailableError

_DENIED = (
    # other processes' memory, descriptors and registers
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease"),
    *("kcmp", "pidfd_getfd"),
    # file systems and namespaces
    *("mount", "umount", "umount2", "pivot_root", "chroot", "unshare", "setns", "fsopen"),
    *("fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr", "swapon"),
    *("swapoff", "quotactl", "quotactl_fd", "name_to_handle_at", "open_by_handle_at", "mknod"),
    *("mknodat", "fanotify_init", "nfsservctl"),
    # large and young parts of the kernel
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter"),
    *("io_uring_register", "add_key", "request_key", "keyctl", "vmsplice", "seccomp"),
    *("memfd_secret", "lookup_dcookie", "modify_ldt", "personality", "uselib", "ustat", "sysfs"),
    # memory that no limit of a process counts, and that outlives one
    *("memfd_create", "shmget", "shmat", "shmctl", "shmdt", "msgget", "msgsnd", "msgrcv", "msgctl"),
    *("semget", "semop", "semtimedop", "semctl", "mq_open", "mq_unlink"),
    # the machine
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot"),
    *("create_module", "query_module", "get_kernel_syms", "syslog", "acct", "iopl", "ioperm"),
    *("settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64"),
    *("adjtimex", "stime", "sethostname", "setdomainname", "vhangup", "move_pages", "mbind"),
    *("migrate_pages", "set_mempolicy", "set_mempolicy_home_node"),
)
_NEW_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 1 << 30)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME shares its bit
with the exit signal of `clone`, so it is only denied to `unshare`, as a whole."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C


@cache
def program(allows_network: bool) -> bytes:
    """The filter; without `allows_network` there are only pairs of Unix sockets.

    With it (where the network namespace is empty anyway) AF_INET and AF_INET6 remain.

    Raises:
        SandboxUnavailableError: libseccomp or its Python module is missing.
    """
    seccomp = _library()
    filters = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    denied = seccomp.ERRNO(errno.EPERM)
    for name in _DENIED:
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:
            filters.add_rule(denied, name)
    filters.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    for flag in _NEW_NAMESPACES[1:]:
        filters.add_rule(denied, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for request in (_TIOCSTI, _TIOCLINUX):
        # The kernel looks at 32 bits of a request, so the filter must not look at more.
        argument = seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request)
        filters.add_rule(denied, "ioctl", argument)
    families = range(socket.AF_INET + 1, socket.AF_INET6) if allows_network else ()
    # A pair leads nowhere; a Unix socket of one's own leads to every service with a path.
    tops = {"socket": socket.AF_UNSPEC, "socketpair": socket.AF_UNIX}
    for call, top in tops.items():
        # A wide comparison also holds for a family with bits above the 32 that the kernel reads.
        highest = socket.AF_INET6 if allows_network else top
        filters.add_rule(denied, call, seccomp.Arg(0, seccomp.GT, int(highest)))
        for family in families:
            filters.add_rule(denied, call, seccomp.Arg(0, seccomp.EQ, family))
    return _export(filters)


def _export(filters: Any) -> bytes:
    with os.fdopen(os.memfd_create("bpf"), "rb") as file:
        filters.export_bpf(file)
        file.seek(0)
        return file.read()


def _library() -> Any:
    """Debian's `seccomp` or PyPI's `pyseccomp`, which have the same interface."""
    problems = []
    for name in ("seccomp", "pyseccomp"):
        try:
            return __import__(name)
        except (ImportError, RuntimeError, OSError) as error:
            problems.append(f"import {name}: {error}")
    raise SandboxUnavailableError(
        f"no libseccomp from Python ({'; '.join(problems)}): pip install pyseccomp, "
        "and apt-get install libseccomp2"
    )
