"""The guest's source as one message: nothing of ours has to lie on a box's disk."""

from __future__ import annotations

import json
import struct
from functools import cache
from importlib import resources
from typing import Any

from .core import Limits

BOOT = """
import sys
sys.path[:] = [path for path in sys.path if path]
import json, os, types
read_fd, write_fd = map(int, sys.argv[1:3])
def take(count):
    data = b""
    while len(data) < count:
        more = os.read(read_fd, count - len(data))
        if not more:
            os._exit(0)
        data += more
    return data
bundle = json.loads(take(int.from_bytes(take(4), "big")))
package = sys.modules["turnhalle_box"] = types.ModuleType("turnhalle_box")
package.__path__ = []
for name, source in bundle["modules"]:
    module = types.ModuleType("turnhalle_box." + name)
    module.__package__ = "turnhalle_box"
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, "<box>/" + name, "exec"), module.__dict__)
sys.exit(getattr(package, bundle["main"]).main(read_fd, write_fd, bundle["config"]))
"""
_FLAGS = ("-s", "-S", "-B", "-X", "utf8", "-c", BOOT)
"""No site-packages, no compiled files; -I would ignore PYTHONHASHSEED too, so the environment is
empty instead, and BOOT takes the working directory off the path before it imports anything."""

ENVIRONMENT = {"PYTHONHASHSEED": "0", "LD_BIND_NOW": "1"}
"""All that an interpreter in a box is started with: sets are walked in one order everywhere, and
functions of libraries are looked up once and not again in every fork."""

_MODULES = {
    "supervisor": (
        *("frames", "codec", "processes", "linux", "isolate", "driver", "attendant", "zygote"),
        *("run", "supervisor"),
    ),
    "warden": ("processes", "linux", "warden"),
}
PRELOAD = (
    *("json", "math", "collections", "itertools", "functools", "re", "heapq", "bisect", "random"),
    *("typing", "string", "operator", "copy", "statistics", "decimal", "fractions", "datetime"),
    *("dataclasses", "enum", "abc", "io", "contextlib", "array", "queue"),
)
"""What programs import most: there already when they start."""


def command(python: str, read_fd: int, write_fd: int) -> list[str]:
    """The command that starts an interpreter which waits for a bundle."""
    return [python, *_FLAGS, str(read_fd), str(write_fd)]


def bundle(main: str, config: dict[str, Any]) -> bytes:
    """What such an interpreter reads first: modules, configuration, and whose `main` to call."""
    modules = [(name, _source(name)) for name in _MODULES[main]]
    body = json.dumps({"modules": modules, "main": main, "config": config}).encode()
    return struct.pack("!I", len(body)) + body


def guest_config(**changes: Any) -> dict[str, Any]:
    """The configuration of a box; `changes` are what a tier wants otherwise.

    Keys: `namespaces` (fresh PID, mount, IPC and network namespaces for every run), `uid` (the
    candidate's user, where the supervisor may take it; None is the supervisor's own), `is_alone`
    (nobody else lives in its PID and IPC namespaces, so all may be killed and nothing may be left),
    `drop_capabilities`, `seccomp` (a BPF program in base64), `landlock` (ruleset words and rules),
    `counts_processes` (the kernel refuses too many; otherwise the supervisor counts, late),
    `other_processes` (how many of the candidate's user are not its own, for RLIMIT_NPROC; None sets
    no such limit), `wipe` (folders emptied after each run), `workdir`, `disk_bytes` (what the first
    run may write), `preload`, `dies_with_parent`.
    """
    config: dict[str, Any] = {
        "namespaces": False,
        "uid": None,
        "is_alone": False,
        "drop_capabilities": False,
        "seccomp": None,
        "landlock": None,
        "counts_processes": False,
        "other_processes": None,
        "wipe": [],
        "workdir": "/tmp",
        "disk_bytes": Limits().disk_bytes,
        "preload": PRELOAD,
        "dies_with_parent": True,
    }
    if unknown := set(changes) - set(config):
        raise TypeError(f"no such part of a guest's configuration: {sorted(unknown)}")
    return config | changes


@cache
def _source(name: str) -> str:
    return (resources.files(__package__) / "guest" / f"{name}.py").read_text(encoding="utf-8")
