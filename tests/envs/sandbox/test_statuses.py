"""How a program ended is said exactly, on every tier."""

from __future__ import annotations

from typing import Any

import pytest

from turnhalle.envs.errors import ConfigError, SandboxUnavailableError
from turnhalle.envs.sandbox import bubblewrap
from turnhalle.envs.sandbox.core import Limits, Program, RunResult, Sandbox, Status
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox

QUICK = Limits(cpu_s=0.5, wall_s=20.0)


def run(sandbox: Sandbox, code: str, limits: Limits = QUICK, **more: object) -> RunResult:
    return sandbox.run(Program(code, **more), limits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("print('hi')", Status.OK),
        ("raise SystemExit", Status.OK),
        ("raise SystemExit(3)", Status.EXIT_NONZERO),
        ("raise SystemExit('no')", Status.EXIT_NONZERO),
        ("1 / 0", Status.EXIT_NONZERO),
        ("def f(:", Status.EXIT_NONZERO),
        ("import os; os._exit(256 + 7)", Status.EXIT_NONZERO),
        ("import os; os.kill(os.getpid(), 15)", Status.SIGNAL),
        ("import os; os.abort()", Status.SIGNAL),
        ("import ctypes; ctypes.string_at(0)", Status.SIGNAL),
        ("while True: pass", Status.TIMEOUT_CPU),
        ("import signal\nsignal.signal(24, lambda *a: 0)\nwhile True: pass", Status.TIMEOUT_CPU),
        ("import os\nos.fork()\nwhile True: pass", Status.TIMEOUT_CPU),
        ("x = bytearray(2**33)", Status.MEMORY),
        ("x = []\nwhile True: x.append('a' * 2**20)", Status.MEMORY),
        ("while True: print('x' * 9999)", Status.OUTPUT_LIMIT),
        ("import os\nwhile True: os.write(2, b'x' * 9999)", Status.OUTPUT_LIMIT),
    ],
)
def test_scripts(any_sandbox: Sandbox, code: str, status: Status) -> None:
    result = run(any_sandbox, code)
    assert result.status == status, result


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "import os; os.kill(0, 19)"])
def test_sleepers_and_the_stopped_meet_the_wall(any_sandbox: Sandbox, code: str) -> None:
    result = run(any_sandbox, code, Limits(wall_s=0.4))
    assert result.status is Status.TIMEOUT_WALL
    assert result.usage.wall_s >= 0.4


@pytest.mark.parametrize(
    ("code", "status", "flags"),
    [
        ("def f(): return [1]", Status.OK, ()),
        ("def f(): print('x' * 60000)", Status.OK, ()),
        ("g = 1", Status.EXIT_NONZERO, ()),
        ("def f(x): return x", Status.EXIT_NONZERO, ()),
        ("import os; os._exit(0)", Status.NO_RESULT, ("exit_at_import",)),
        ("raise SystemExit(0)", Status.NO_RESULT, ("exit_at_import",)),
        ("def f(): raise SystemExit(0)", Status.NO_RESULT, ()),
        ("import os\ndef f(): os._exit(0)", Status.NO_RESULT, ()),
        ("import os\ndef f(): os.execv('/bin/true', ['true'])", Status.NO_RESULT, ()),
        ("def f(): return f", Status.BAD_RESULT, ()),
        ("class A(int): pass\ndef f(): return A(1)", Status.BAD_RESULT, ("custom_type",)),
        ("def f(): return 'x' * 2**21", Status.BAD_RESULT, ()),
        ("def f():\n x = []\n x.append(x)\n return x", Status.BAD_RESULT, ()),
        ("import os\ndef f(): os.write(3, b'x' * 2**22)", Status.BAD_RESULT, ("malformed_frame",)),
        (
            "import os\ndef f(): os.write(3, b'\\0\\0\\0\\1x')",
            Status.BAD_RESULT,
            ("malformed_frame",),
        ),
        ("import os\ndef f(): os.write(3, b'\\0\\0')", Status.BAD_RESULT, ("malformed_frame",)),
        (
            "import os\ndef f(): os.write(3, b'\\0\\0\\0\\x0b{\"value\":7}')",
            Status.BAD_RESULT,
            ("extra_frames",),
        ),
        ("import os\ndef f(): os.close(3)", Status.EXIT_NONZERO, ()),
    ],
)
def test_functions(any_sandbox: Sandbox, code: str, status: Status, flags: tuple[str, ...]) -> None:
    result = run(any_sandbox, code, entry="f")
    assert (result.status, result.flags) == (status, flags), result
    assert (result.value is None) == (status is not Status.OK or "return" not in code)


def test_values_keep_their_types(any_sandbox: Sandbox) -> None:
    value = (1, True, 1.0, -0.0, {"a": {2, 3}}, b"\0", 2**70, frozenset([()]), 2j, "\ud800", None)
    result = any_sandbox.run(Program("def f(x): return x", "f", (value,)), QUICK)
    assert result.status is Status.OK
    assert repr(result.value) == repr(value)


def test_arguments_that_cannot_cross_are_the_callers_mistake(any_sandbox: Sandbox) -> None:
    with pytest.raises(ConfigError, match="object"):
        any_sandbox.run(Program("def f(x): return x", "f", (object(),)))
    assert run(any_sandbox, "print(1)").stdout == "1\n"


def test_text_goes_through_whole(any_sandbox: Sandbox) -> None:
    text = "héllo\r\n\x00ß\u2028end"
    code = "import sys; sys.stdout.write(sys.stdin.read()); sys.stderr.write('é')"
    result = run(any_sandbox, code, stdin=text)
    # Python's own reading of text turns \r\n into \n.
    assert (result.stdout, result.stderr) == (text.replace("\r\n", "\n"), "é")


def test_a_traceback_shows_the_programs_own_lines(any_sandbox: Sandbox) -> None:
    result = run(any_sandbox, "def f():\n    return 1 / 0", entry="f")
    assert "return 1 / 0" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert "driver" not in result.stderr


def test_scripts_end_like_scripts(any_sandbox: Sandbox) -> None:
    code = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
        "print(__name__)"
    )
    assert run(any_sandbox, code).stdout == "__main__\nthread\nlast\n"
    guarded = "if __name__ == '__main__': 1 / 0\ndef f(): return 1"
    assert run(any_sandbox, guarded, entry="f").value == 1


def test_runs_are_the_same_run_after_run(any_sandbox: Sandbox) -> None:
    code = (
        "import random, os\n"
        "print(random.random(), list({'a', 'b', 'c', 'd'}), os.getcwd() != '', sorted(os.environ))"
    )
    assert len({run(any_sandbox, code).stdout for _ in range(3)}) == 1


def test_children_left_behind_are_killed_and_counted(any_sandbox: Sandbox) -> None:
    code = "import os, time\nfor _ in range(3):\n  if os.fork() == 0: time.sleep(60)"
    result = run(any_sandbox, code)
    assert result.status is Status.OK
    assert result.usage.num_left == 3
    assert result.flags == ("left_children",)
    assert result.usage.wall_s < 10


def test_children_that_ended_before_anybody_looked_are_counted_too(any_sandbox: Sandbox) -> None:
    code = "import os, time\nfor _ in range(3):\n  if os.fork() == 0: os._exit(0)\ntime.sleep(0.1)"
    assert run(any_sandbox, code).usage.num_left == 3
    orphan = "import os\nif os.fork() == 0:\n  os.fork()\n  os._exit(0)\nos.wait()"
    result = run(any_sandbox, orphan)
    assert (result.usage.num_left, result.flags) == (1, ("left_children",))


def test_usage_is_measured(any_sandbox: Sandbox) -> None:
    code = "x = b'a' * 2**26\nimport time\nwhile time.process_time() < 0.2: pass"
    result = run(any_sandbox, code)
    assert result.status is Status.OK
    assert 0.15 < result.usage.cpu_s < 0.5
    assert 2**26 < result.usage.max_memory_bytes < 2**27
    assert result.usage.wall_s >= 0.15


def test_calls_cross_to_the_host_and_back(any_sandbox: Sandbox) -> None:
    def answer(name: str, arguments: list[object]) -> object:
        if name == "fail":
            raise KeyError("nothing here")
        return (name, arguments)

    code = (
        "def f():\n"
        "    seen = [call_host('g', 1, {2}), call_host('h')]\n"
        "    try:\n        call_host('fail')\n"
        "    except RuntimeError as error:\n        seen.append(str(error))\n"
        "    return seen"
    )
    result = any_sandbox.run(Program(code, "f"), QUICK, on_call=answer)
    assert result.value == [("g", [1, {2}]), ("h", []), "'nothing here'"], result


def test_calls_without_a_host_are_refused(any_sandbox: Sandbox) -> None:
    result = run(any_sandbox, "def f(): return call_host('g')", entry="f")
    assert result.status is Status.EXIT_NONZERO
    forged = (
        "import os\ndef f():\n"
        '    data = b\'{"call":["g",[]]}\'\n'
        "    os.write(3, bytes([0, 0, 0, len(data)]) + data)"
    )
    assert run(any_sandbox, forged, entry="f").status is Status.BAD_RESULT


def test_a_checker_may_wait_for_a_candidate_with_one_slot(any_sandbox: Sandbox) -> None:
    def answer(name: str, arguments: list[object]) -> object:
        inner = Program("def f(x): return x * 2", "f", tuple(arguments))
        return any_sandbox.run(inner, QUICK).value

    checker = Program("def check(): return [call_host('f', n) for n in range(3)]", "check")
    assert any_sandbox.run(checker, QUICK, on_call=answer).value == [0, 2, 4]


def test_cpu_time_is_of_this_run_alone(any_sandbox: Sandbox) -> None:
    """Where one process waits for the candidates of many runs, it has the CPU time of them all."""
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.fork()\n"
        "    while time.process_time() < 0.15: pass\n"
        "    os._exit(0)\n"
        "while time.process_time() < 0.2: pass\n"
    )
    for _ in range(3):
        assert run(any_sandbox, code, Limits(cpu_s=1.0, wall_s=30.0)).status is Status.OK


def test_a_run_may_write_as_much_as_its_own_limits_say(sandbox: Sandbox) -> None:
    code = "open('x', 'wb').write(bytes(3 << 20))"
    assert run(sandbox, code, Limits(disk_bytes=4 << 20)).status is Status.OK
    assert run(sandbox, code, Limits(disk_bytes=2 << 20)).status is not Status.OK
    assert run(sandbox, code, Limits(disk_bytes=4 << 20)).status is Status.OK


def test_memory_holds_nothing_of_earlier_runs(sandbox: Sandbox) -> None:
    before = Program(
        "import sys\nsecret = 'needle:0123456789abcdef'\nprint(secret + sys.stdin.read())",
        stdin="needle:fedcba9876543210",
    )
    search = (
        "import re\nfound = []\n"
        "with open('/proc/self/mem', 'rb', 0) as memory:\n"
        "    for line in open('/proc/self/maps'):\n"
        "        first, last = (int(part, 16) for part in line.split()[0].split('-'))\n"
        "        if ' rw' in line:\n"
        "            memory.seek(first)\n"
        "            found += re.findall(rb'needle:[0-9a-f]{16}', memory.read(last - first))\n"
    )
    assert run(sandbox, before.code, stdin=before.stdin).stdout.count("needle") == 2
    result = run(sandbox, search + "print(found)", Limits(cpu_s=5.0, wall_s=30.0))
    assert (result.stdout, result.stderr) == ("[]\n", "")
    own = search + "x = 'needle:' + 'ab' * 8\n" + search + "print(len(found) > 0)"
    assert run(sandbox, own, Limits(cpu_s=5.0, wall_s=30.0)).stdout == "True\n"


def test_walls_that_will_not_stand_are_nobodys_fault_but_ours(
    open_tier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tier("bubblewrap", slots=1).close()
    real = bubblewrap.guest_config
    monkeypatch.setattr(
        bubblewrap, "guest_config", lambda **config: real(**config | {"seccomp": "AAAA" * 4})
    )
    with pytest.raises(SandboxUnavailableError, match="PR_SET_SECCOMP"):
        open_sandbox(SandboxOptions(tier="bubblewrap", slots=1))


def test_a_module_that_cannot_be_preloaded_is_named(open_tier: Any) -> None:
    open_tier("bubblewrap", slots=1).close()
    with pytest.raises(SandboxUnavailableError, match="no_such_module"):
        open_sandbox(SandboxOptions(tier="bubblewrap", slots=1, preload=["no_such_module"]))
