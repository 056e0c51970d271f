"""Environments in processes of their own play as they do here, and die alone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import turnhalle as th
from turnhalle.envs.errors import ConfigError, EnvError, JudgeError, UnknownNameError
from turnhalle.envs.isolation import IsolatedEnv, Isolation, _helper
from turnhalle.envs.options import EnvOptions

WORLDS = Path(__file__).with_name("odd_worlds.py")


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """Environments to be closed, whatever happens."""
    envs: list[Any] = []
    yield envs
    for env in envs:
        env.close()


def options(name: str, **kwargs: Any) -> EnvOptions:
    return EnvOptions(id=f"{WORLDS}:{name}", isolation="process", **kwargs)


def wait_until(is_so: Any) -> None:
    ends = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


def children(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("name", ["Talk", "Remembering"])
def test_it_plays_as_it_does_in_this_process(name: str, opened: list[Any]) -> None:
    factory = options(name, difficulty=2).factory()
    here, there = factory(), factory.open()
    opened.append(there)
    assert isinstance(there, IsolatedEnv)
    asked = {"split": "eval", "task": 3}
    assert there.reset(options=asked) == here.reset(options=asked)
    assert (there.task, there.id, there.difficulty) == (here.task, here.id, here.difficulty)
    assert there.expert() == here.expert()
    assert there.step("a") == here.step("a")
    twin, other = here.fork(), there.fork()
    opened.append(other)
    for action in "bc":
        assert there.step(action) == here.step(action)
    for action in "xy":
        assert other.step(action) == twin.step(action)


def test_a_registered_one_keeps_its_id_and_its_tools(opened: list[Any]) -> None:
    factory = EnvOptions(id="tools", isolation="process").factory()
    here, there = factory(), factory.open()
    opened.append(there)
    assert there.id == "turnhalle/Tools-v0"
    assert there.reset(options={"task": 5}) == here.reset(options={"task": 5})


def test_an_awaited_one_is_awaited_there(opened: list[Any]) -> None:
    env = options("Awaited").factory().open()
    opened.append(env)
    env.reset(options={"task": 0})
    assert "'a!'" in env.step("a")[0]


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        (2, EnvError, "died in step: exit status 3"),
        (3, EnvError, "MemoryError"),
        (4, EnvError, "died in step: SIGSEGV"),
        (5, EnvError, "ValueError: out of order. To replay"),
        (6, JudgeError, "no verdict"),
    ],
)
def test_what_went_wrong_is_told(task: int, error: Any, message: str, opened: list[Any]) -> None:
    env = options("Odd", memory_gib=0.25).factory().open()
    opened.append(env)
    env.reset(options={"task": task})
    env.step("a")
    with pytest.raises(error, match=message):
        env.step("b")


@pytest.mark.parametrize(("name", "task"), [("Odd", 1), ("Slow", 0)])
def test_one_that_hangs_is_killed(name: str, task: int, opened: list[Any]) -> None:
    env: Any = options(name).factory().open()
    opened.append(env)
    env.reset(options={"task": task})
    helper = psutil.Process(_helper().process.pid)
    (process,) = children(helper)
    threading.Timer(0.5, env.kill).start()
    with pytest.raises(EnvError, match="died in step"):
        [env.step("a") for _ in range(2)]
    wait_until(lambda: not psutil.pid_exists(process.pid))
    with pytest.raises(EnvError, match="was killed"):
        env.step("a")


def test_a_closed_one_leaves_nothing_behind() -> None:
    helper = psutil.Process(_helper().process.pid)
    wait_until(lambda: not children(helper))
    before = psutil.Process().num_fds()
    for _ in range(5):
        env = options("Talk").factory().open()
        env.reset(options={"task": 0})
        env.close()
        env.close()
    wait_until(lambda: not children(helper))
    assert psutil.Process().num_fds() == before


def test_a_helper_that_died_is_replaced(opened: list[Any]) -> None:
    first, second = (options("Talk").factory().open() for _ in range(2))
    opened.extend([first, second])
    first.reset(options={"task": 0})
    helper = _helper()
    helper.process.kill()
    helper.process.wait()
    with pytest.raises(EnvError, match="died"):
        first.step("a")
    second.reset(options={"task": 0})
    assert _helper() is not helper


def test_all_of_it_ends_with_the_process_that_started_it() -> None:
    code = (
        "import os, signal, psutil\n"
        "from turnhalle.envs.options import EnvOptions\n"
        f"env = EnvOptions(id={str(WORLDS)!r} + ':Odd', isolation='process').factory().open()\n"
        "env.reset(options={'task': 1}), env.step('a')\n"
        "import threading, time\n"
        "threading.Thread(target=env.step, args=('b',), daemon=True).start(), time.sleep(0.3)\n"
        "print([p.pid for p in psutil.Process().children(recursive=True)], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pids = [int(pid) for pid in done.stdout.strip("[]\n").split(",")]
    assert len(pids) == 2
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_what_no_other_process_could_find_is_refused() -> None:
    class Here(th.TextEnv):
        """Lives in a function."""

    from turnhalle.envs.registry import EnvFactory

    with pytest.raises(ConfigError, match="move the class to the top"):
        EnvFactory(Here, isolation=Isolation()).open()
    factory = options("Talk").factory()
    with pytest.raises(ConfigError, match="options of plain JSON"):
        EnvFactory(factory.cls, kwargs={"max_turns": object()}, isolation=Isolation()).open()
    with pytest.raises(UnknownNameError, match="size"):
        options("Talk", options={"size": 1}).factory()
    with pytest.raises(ConfigError, match=r"give env\.isolation="):
        EnvOptions(id="tools", memory_gib=1.0).factory()
