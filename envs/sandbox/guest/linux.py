"""The system calls that Python 3.11 has no name for, through ctypes."""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID = 0x20000, 0x8000000, 0x40000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_SUBREAPER, _PR_SET_NNP = 23, 24, 36, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "ppc64le": 184, "s390x": 185}
_LANDLOCK = (444, 445, 446)
"""The same numbers on every architecture, like all system calls since 5.2."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(what: str, *arguments: int) -> int:
    padded = [ctypes.c_ulong(number) for number in (*arguments, 0, 0, 0, 0)[:5]]
    return _check(_libc.prctl(*padded), what)


def unshare(flags: int) -> None:
    """Leave the shared namespaces of the kinds named."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter a namespace."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system, or change a mount."""
    names = [text.encode() for text in (source, target, kind)]
    _check(_libc.mount(*names, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def die_with_parent() -> None:
    """Be killed when the thread that made this process ends."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, 9)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends."""
    _prctl("PR_SET_CHILD_SUBREAPER", _PR_SET_SUBREAPER, 1)


def set_dumpable(is_dumpable: bool) -> None:
    """Whether processes of the same user may look into this one."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(is_dumpable))


def forbid_new_privileges() -> None:
    """Make setuid programs and file capabilities powerless, for good."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NNP, 1)


def drop_bounding_set() -> None:
    """Let no program that is started give capabilities that are not held; where that is allowed."""
    number = 0
    while _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0) >= 0:
        _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0)
        number += 1


def drop_capabilities() -> None:
    """Give up every capability held."""
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.syscall(_CAPSET[platform.machine()], header, nothing), "capset")


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def load_seccomp(program: bytes) -> None:
    """Filter the system calls of this process and all that come from it."""
    code = ctypes.create_string_buffer(program, len(program))
    value = _Filter(len(program) // 8, ctypes.cast(code, ctypes.c_void_p).value)
    arguments = (ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(value))
    _check(_libc.prctl(_PR_SET_SECCOMP, *arguments, 0, 0), "PR_SET_SECCOMP")


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_abi() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    version: int = _libc.syscall(_LANDLOCK[0], None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    return max(0, version)


def landlock(handled: list[int], rules: list[tuple[str, int]]) -> None:
    """Restrict this process: `handled` are the words of the ruleset, `rules` paths and accesses."""
    words = (ctypes.c_uint64 * len(handled))(*handled)
    size = ctypes.c_size_t(ctypes.sizeof(words))
    create, add, restrict = _LANDLOCK
    ruleset = _check(_libc.syscall(create, words, size, ctypes.c_uint32(0)), "landlock")
    for path, access in rules:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _PathRule(access, parent)
        _check(_libc.syscall(add, ruleset, 1, ctypes.byref(rule), 0), f"landlock rule {path}")
        os.close(parent)
    _check(_libc.syscall(restrict, ruleset, 0), "landlock")
    os.close(ruleset)
