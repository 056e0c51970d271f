"""A property of a sandbox, and the attack that proves it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .core import Limits, Program, RunResult, Sandbox, Status

_TRY = """
import ctypes, os, sys
found = []
def attempt(name, action):
    try:
        result = action()
    except (OSError, MemoryError, ImportError):
        return
    if result is not False:
        found.append(f"{name}: {result}"[:200])
def pids():
    try:
        return [int(name) for name in os.listdir('/proc') if name.isdigit()]
    except OSError:
        return [os.getpid(), os.getppid(), 1]
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return libc.syscall(*wide) >= 0
"""
_END = "\nprint('\\n'.join(found))\n"


@dataclass(frozen=True, slots=True)
class Property:
    """Something that holds, or does not."""

    name: str
    attack: str
    """Code that appends to `found` what it could do; `attempt(name, action)` helps."""
    before: str = ""
    """Code of a run that comes first, and may leave something behind."""
    limits: Limits = field(default_factory=lambda: Limits(wall_s=15.0))
    unclaimed: frozenset[str] = frozenset({"unsafe"})
    """Tiers that do not claim it."""
    statuses: tuple[Status, ...] = (Status.OK,)
    """How the attack may end; in most it ends by itself."""
    needs_cgroup: bool = False
    """Not claimed by a tier whose record says that memory is limited per process."""

    def examine(self, sandbox: Sandbox, secrets: dict[str, str]) -> str:
        """Attack; gives what was found, "" if the property holds.

        Args:
            sandbox: What is attacked.
            secrets: Of the host, by their name in the attack's code: paths, a port, text.
        """
        names = "".join(f"{name} = {value!r}\n" for name, value in secrets.items())
        if self.before:
            sandbox.run(Program(names + _TRY + self.before), self.limits)
        result = sandbox.run(Program(names + _TRY + self.attack + _END), self.limits)
        if problem := _problem(result, self.statuses):
            return problem
        alive = sandbox.run(Program("print('alive')"), Limits(wall_s=15.0))
        return "" if alive.stdout == "alive\n" else f"the next run ended with {alive.status}"


def _problem(result: RunResult, statuses: tuple[Status, ...]) -> str:
    if result.status not in statuses:
        last = (result.stderr.strip().splitlines() or [result.detail])[-1]
        return f"the attack ended with {result.status}: {last}"[:300]
    return result.stdout.strip().replace("\n", "; ")[:300] if result.status is Status.OK else ""
