"""Nothing outlives a sandbox or its host, and nothing grows while it works."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnhalle.envs.sandbox.cgroups import homes
from turnhalle.envs.sandbox.core import Limits, Program, Sandbox, Status
from turnhalle.envs.sandbox.options import SandboxOptions, TierName, open_sandbox

TIERS: tuple[TierName, ...] = ("bubblewrap", "landlock", "unsafe")


def descendants(pid: int) -> set[int]:
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            below.setdefault(int(text[text.rindex(")") + 2 :].split()[1]), []).append(int(name))
    found, todo = set[int](), [pid]
    while todo:
        children = below.get(todo.pop(), [])
        found.update(children)
        todo += children
    return found


def traces() -> dict[str, int]:
    """What this process has and what its sandboxes have left on the machine."""
    own = f"turnhalle-{os.getpid()}-"
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return {
        "processes": len(descendants(os.getpid())),
        "descriptors": len(os.listdir("/proc/self/fd")),
        # Docker, where it is in use beside these tests, mounts and unmounts as it likes.
        "mounts": sum("docker" not in line for line in mounts),
        "cgroups": sum(1 for home in homes().values() for _ in home.glob(f"{own}*")),
        "folders": len(list(Path(tempfile.gettempdir()).glob(f"{own}*"))),
    }


def settled() -> dict[str, int]:
    """The same once it stays as it is: the next run is staged while the last one is told."""
    seen = [traces()]
    while len(seen) < 5 or any(each != seen[-1] for each in seen[-5:]):
        time.sleep(0.1)
        seen.append(traces())
    return seen[-1]


@pytest.mark.parametrize("tier", TIERS)
def test_closing_leaves_nothing(
    tier: TierName, allow_unsafe: None, need_tier: Callable[[TierName], None]
) -> None:
    if tier != "unsafe":
        need_tier(tier)
    before = traces()
    with open_sandbox(SandboxOptions(tier=tier, slots=2, allow_unsafe=True)) as sandbox:
        during = traces()
        code = "import os, time\nif os.fork() == 0: time.sleep(60)"
        assert sandbox.run(Program(code)).usage.num_left == 1
    assert during["processes"] > before["processes"]
    assert traces() == before


_HOST = """
import os, sys
from turnhalle.envs.sandbox.core import Limits, Program
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox
options = SandboxOptions(tier=sys.argv[1], slots=1, allow_unsafe=True)
sandbox = open_sandbox(options)
def call(name, arguments):
    print("running", flush=True)
    return None
code = (
    "import os, time\\n"
    "for _ in range(3):\\n"
    "    if os.fork() == 0:\\n"
    "        os.setsid()\\n"
    "        while True: time.sleep(1)\\n"
    "call_host('x')\\n"
    "while True: time.sleep(1)"
)
sandbox.run(Program(code), Limits(cpu_s=60, wall_s=60), on_call=call)
"""


@pytest.mark.parametrize("tier", TIERS)
def test_nothing_survives_a_killed_host(
    tier: TierName, allow_unsafe: None, need_tier: Callable[[TierName], None]
) -> None:
    if tier != "unsafe":
        need_tier(tier)
    host = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _HOST, tier],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "running\n"
    family = descendants(host.pid)
    assert len(family) >= 6
    host.kill()
    host.wait()
    host.stdout.close()
    end = time.monotonic() + 20
    while time.monotonic() < end and any(Path(f"/proc/{pid}").exists() for pid in family):
        time.sleep(0.05)
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    for home in homes().values():
        assert list(home.glob(f"turnhalle-{host.pid}-*")) == []


_AS_NOBODY = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from turnhalle.envs.sandbox.core import Program
from turnhalle.envs.sandbox.doctor import examine
from turnhalle.envs.sandbox.options import SandboxOptions
found = examine("bubblewrap", SandboxOptions())
broken = [(each.property, each.detail) for each in found.findings if each.verdict == "BROKEN"]
print(json.dumps([found.unavailable, broken]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_everything_holds_for_a_plain_user_too(
    need_tier: Callable[[TierName], None], tmp_path: Path
) -> None:
    need_tier("bubblewrap")
    python = "/usr/bin/python3"
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if shutil.which(python) is None or own not in os.path.realpath(python):
        pytest.skip(f"no {python} of version {own} that a plain user can run")
    typing = Path(__file__).parents[3] / ".typing"
    paths = [str(typing), *(path for path in sys.path if path.endswith("site-packages"))]
    done = subprocess.run(
        [python, "-c", _AS_NOBODY, json.dumps(paths)],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["", []]


_NORMAL = ("print(1)", "print(sum(range(10**5)))", "import json; print(json.dumps([1]))", "1 / 0")
_ATTACKS = (
    "import os\nwhile True: os.fork()",
    "x = []\nwhile True: x.append(bytearray(2**22))",
    "while True: print('x' * 9999)",
    "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(60)",
    "import os\nos.kill(-1, 9)",
    "open('/dev/shm/x', 'wb').write(b'x' * 2**25)",
    "import os\nfor n in range(99999): open(f'/tmp/{n}', 'w').close()",
    "while True: pass",
    "import time; time.sleep(99)",
    "import os\n[os.pipe() for _ in range(9999)]",
    "import ctypes; ctypes.string_at(0)",
    "import os\nfor fd in range(3, 99):\n try: os.write(fd, b'x' * 99)\n except OSError: pass",
)


def soak(sandbox: Sandbox, num_runs: int) -> dict[str, int]:
    """Run a mixture with one attack in twenty; gives how often each status came."""
    rng, counts = random.Random(0), dict[str, int]()
    limits = Limits(cpu_s=0.2, wall_s=2.0, memory_bytes=64 * 2**20)
    for _ in range(num_runs):
        is_attack = rng.random() < 0.05
        code = rng.choice(_ATTACKS if is_attack else _NORMAL)
        result = sandbox.run(Program(code), limits)
        if not is_attack:
            expected = Status.EXIT_NONZERO if "/ 0" in code else Status.OK
            assert result.status is expected, (code, result)
        counts[result.status] = counts.get(result.status, 0) + 1
    return counts


@pytest.mark.parametrize(
    "num_runs", [150, pytest.param(10_000, marks=pytest.mark.slow)], ids=["short", "whole"]
)
def test_nothing_grows_over_many_runs(
    num_runs: int, opened: dict[str, Any], need_tier: Any
) -> None:
    need_tier("bubblewrap")
    with open_sandbox(SandboxOptions(tier="bubblewrap", slots=1)) as sandbox:
        soak(sandbox, 20)
        before, started = settled(), time.monotonic()
        counts = soak(sandbox, num_runs)
        sandbox.run(Program(""))
        print(f"{num_runs} runs in {time.monotonic() - started:.0f} s: {counts}")
        assert settled() == before
    assert sum(counts.values()) == num_runs
    assert counts["ok"] > num_runs / 2
