"""The system calls that Python 3.11 has no name for, through ctypes."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x8000000, 0x40000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_SUBREAPER, _PR_SET_NNP = 23, 24, 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "ppc64le": 184, "s390x": 185}
_LANDLOCK = (444, 445, 446)
"""The same numbers on every architecture, like all system calls since 5.2."""

_libc = ctypes.CDLL(None, use_errno=True)
_python = ctypes.PyDLL(None, use_errno=True)
"""The same, called without letting go of the interpreter."""


def _function(name: str, *kinds: Any, of: ctypes.CDLL = _libc) -> Any:
    """A function of libc, looked up now: in a fork it would cost the copies of fifty pages."""
    function = of[name]
    function.argtypes = kinds
    return function


_fork = _function("fork", of=_python)
_unshare, _setns = _function("unshare", ctypes.c_int), _function("setns", *[ctypes.c_int] * 2)
_mount = _function("mount", *[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p)
_prctl = _function("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)
_syscall = _libc.syscall
_capset = _CAPSET[platform.machine()]
_no_capabilities = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def fork() -> int:
    """Fork, without what Python does in a child for the sake of other threads.

    That touches, and so copies, three times as many pages as the fork itself: 0.3 ms of CPU. It
    also gives every child another random seed. Only for a process of one thread.
    """
    return int(_check(_fork(), "fork"))


def unshare(flags: int) -> None:
    """Leave the shared namespaces of the kinds named."""
    _check(_unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter a namespace."""
    _check(_setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, or change a mount."""
    names = source.encode(), target.encode(), kind.encode()
    _check(_mount(*names, flags, options.encode()), target)


def die_with_parent() -> None:
    """Be killed when the thread that made this process ends."""
    _check(_prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "PR_SET_PDEATHSIG")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends."""
    _check(_prctl(_PR_SET_SUBREAPER, 1, 0, 0, 0), "PR_SET_CHILD_SUBREAPER")


def set_dumpable(is_dumpable: bool) -> None:
    """Whether processes of the same user may look into this one."""
    _check(_prctl(_PR_SET_DUMPABLE, int(is_dumpable), 0, 0, 0), "PR_SET_DUMPABLE")


def forbid_new_privileges() -> None:
    """Make setuid programs and file capabilities powerless, for good."""
    _check(_prctl(_PR_SET_NNP, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def drop_bounding_set() -> None:
    """Let no program that is started give capabilities that are not held; where that is allowed."""
    number = 0
    while _prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        _prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1


def drop_capabilities() -> None:
    """Give up every capability held."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _check(_syscall(_capset, *_no_capabilities), "capset")


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


class Filter:
    """A BPF program that is ready to be loaded."""

    def __init__(self, program: bytes) -> None:
        self._filter = _Filter(len(program) // 8, program)
        self._address = ctypes.addressof(self._filter)

    def load(self) -> None:
        """Filter the system calls of this process and all that come from it."""
        arguments = _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._address, 0, 0
        _check(_prctl(*arguments), "PR_SET_SECCOMP")


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_abi() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    version: int = _syscall(_LANDLOCK[0], None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, version)


def landlock(handled: list[int], rules: list[tuple[str, int]]) -> None:
    """Restrict this process: `handled` are the words of the ruleset, `rules` paths and accesses."""
    words = (ctypes.c_uint64 * len(handled))(*handled)
    size = ctypes.c_size_t(ctypes.sizeof(words))
    create, add, restrict = _LANDLOCK
    ruleset = _check(_syscall(create, words, size, ctypes.c_uint32(0)), "landlock")
    for path, access in rules:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _PathRule(access, parent)
        _check(_syscall(add, ruleset, 1, ctypes.byref(rule), 0), f"landlock rule {path}")
        os.close(parent)
    _check(_syscall(restrict, ruleset, 0), "landlock")
    os.close(ruleset)
