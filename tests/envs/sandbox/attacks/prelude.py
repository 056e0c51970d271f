# What stands before every attack: names for its limits, and words for what it reached. An attack
# prints REACHED and what, for everything that it should not have been able to do; a line that does
# not begin so is only for the reader of a failure. Whatever succeeds does no harm.
import contextlib
import ctypes
import errno
import os
import sys

MIB = 2**20
MEMORY, DISK, PROCESSES, FILES = 128 * MIB, 8 * MIB, 8, 64
TOKEN = "@TOKEN@"
REFUSED = (errno.EPERM, errno.ENOSYS, errno.EACCES)
ARM = os.uname().machine == "aarch64"

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(15, TOKEN.encode(), 0, 0, 0)  # the name by which the host finds what is left


def say(*words):
    print(*words, flush=True)


def attempt(what, action):
    """Do what must raise."""
    try:
        found = action()
    except Exception as error:
        say("refused:", what, repr(error)[:100])
    else:
        say("REACHED", what, repr(found)[:100])


def forbidden(what, x86, arm, *arguments):
    """Make a system call that must be refused, whatever its arguments are."""
    ctypes.set_errno(0)
    if libc.syscall(arm if ARM else x86, *arguments) == 0 and what.startswith("clone"):
        os._exit(0)  # the child
    code = ctypes.get_errno()
    say("refused:" if code in REFUSED else "REACHED", what, errno.errorcode.get(code, code))


def at_most(what, found, allowed):
    say("REACHED" if found > allowed else "contained:", what, found, "of", allowed)


def others():
    """Ids of processes that are not this one."""
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()
    ]
