"""Which Python a box can use: complete, and readable from inside."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

from ..errors import SandboxUnavailableError

_PLACES = ("/usr/bin/python3", "/usr/local/bin/python3")
_NEEDS = "json, ctypes, resource, select, socket, random, hashlib, decimal"


@cache
def find(python: str | None, uid: int | None) -> tuple[str, str]:
    """An interpreter and the folder it is installed in, both readable by the user `uid`.

    Raises:
        SandboxUnavailableError: There is none; says what each lacks.
    """
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    reasons = []
    for place in (python,) if python else (*_PLACES, own):
        found = _ask(place, uid)
        if isinstance(found, tuple):
            return found
        reasons.append(f"{place}: {found}")
    raise SandboxUnavailableError(
        f"no Python 3.10 or newer that a box can read ({'; '.join(reasons)}): apt-get install "
        "python3, or name one with the option python="
    )


def _ask(python: str, uid: int | None) -> tuple[str, str] | str:
    is_new = "assert sys.version_info >= (3, 10), sys.version"  # the guest knows the stdlib by name
    code = f"import sys, {_NEEDS}; {is_new}; print(sys.base_prefix)"
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", code],
            capture_output=True,
            text=True,
            timeout=30,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            cwd="/",
            env={},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1][:200]
    return python, done.stdout.strip()
