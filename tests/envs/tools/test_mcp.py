"""Environments on a real MCP server, over stdio and over HTTP."""

from __future__ import annotations

import gc
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.errors import ConfigError, EnvError
from turnhalle.envs.tools.formats import render_call
from turnhalle.envs.tools.mcp_connection import McpConnection

pytest.importorskip("mcp")
SERVER = Path(__file__).with_name("mcp_server.py")
EXAMPLE = Path(__file__).parents[3] / "examples" / "mcp_tools.py"


class Notes(th.McpEnv):
    """Note the number."""

    server = (sys.executable, str(SERVER))
    offered = ("note", "fail", "sleep", "die")
    max_turns = 5

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(1000)}

    def start(self) -> str:
        self.call_server("restart")
        return f"Note {self.instance['n']}."

    @th.tool
    def here(self) -> str:
        """A tool of the class itself."""
        return "here"

    def answer(self, text: str) -> th.Reply:
        success = self.call_server("note", text="", times=0) == "1 notes"
        return th.End("bye", success=success, reward=float(success))


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def shared() -> Iterator[Notes]:
    env = Notes()
    yield env
    env.close()


@pytest.fixture
def notes(shared: Notes) -> Notes:
    shared.reset(seed=0)
    return shared


def children() -> set[str]:
    task = Path(f"/proc/{os.getpid()}/task")
    return {pid for path in task.glob("*/children") for pid in path.read_text().split()}


def mcp_threads() -> int:
    return sum(thread.name == "turnhalle-mcp" for thread in threading.enumerate())


def test_tools_of_the_server_and_of_the_class_are_told(notes: Notes) -> None:
    _, info = notes.reset(seed=1)
    assert [tool.name for tool in info["tools"]] == ["here", "note", "fail", "sleep", "die"]
    note = info["tools"][1]
    assert note.description == "Write something down."
    assert note.parameters["properties"]["times"]["type"] == "integer"


def test_calls_run_on_the_server_in_order(notes: Notes) -> None:
    action = render_call("note", text="a") + render_call("here") + render_call("note", text="b")
    assert notes.step(action)[0] == "1 notes\nhere\n2 notes"


def test_an_episode_is_judged_by_the_state_of_the_server(notes: Notes) -> None:
    notes.step(render_call("note", text="a"))
    *_, info = notes.step("done")
    assert info["success"]


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (render_call("note"), "missing_argument", "error: note: 'text' is a required property"),
        (render_call("note", text=3), "wrong_type", "error: note: text: 3 is not of type 'string'"),
        (render_call("restart"), "unknown_tool", "error: no tool 'restart'"),
        (render_call("fail"), "refused", "error: "),
    ],
)
def test_bad_calls_are_graded_and_the_episode_goes_on(
    notes: Notes, call: str, kind: str, said: str
) -> None:
    observation, _, terminated, _, _ = notes.step(call)
    assert observation.startswith(said)
    assert [fault.kind for fault in notes.faults] == [kind]
    assert not terminated


def test_it_says_that_it_cannot_be_snapshot(notes: Notes) -> None:
    assert (notes.metadata["snapshot"], notes.metadata["blocking"]) == ("none", True)
    with pytest.raises(ConfigError, match="cannot be snapshot"):
        notes.fork()


def test_http_does_what_stdio_does(url: str) -> None:
    class Remote(Notes):
        server = url

    env = Remote()
    env.reset(seed=0)
    assert env.step(render_call("note", text="ä🙂"))[0] == "1 notes"
    *_, info = env.step("done")
    assert info["success"]
    env.close()
    assert env.reset(seed=1)[0].startswith("Note")
    env.close()


def test_a_server_that_dies_is_a_failure_of_the_environment() -> None:
    env = Notes()
    env.reset(seed=0)
    started = time.monotonic()
    with pytest.raises(EnvError, match=r"Connection closed.*out of paper"):
        env.step(render_call("die"))
    with pytest.raises(EnvError, match="is closed"):
        env.step(render_call("note", text="a"))
    assert time.monotonic() - started < 10
    env.reset(seed=0)
    assert env.step(render_call("note", text="a"))[0] == "1 notes"
    env.close()


def test_a_server_that_takes_too_long_is_a_failure_of_the_environment() -> None:
    class Hasty(Notes):
        timeout_s = 3.0

    env = Hasty()
    env.reset(seed=0)
    with pytest.raises(EnvError, match=r"sleep: no answer within 3 s|timed out"):
        env.step(render_call("sleep", seconds=30.0))
    env.close()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("no-such-command-3f8a",), "no-such-command-3f8a: FileNotFoundError"),
        ((sys.executable, "-c", "raise SystemExit('no config')"), "it said last: no config"),
        ("http://127.0.0.1:9/mcp", "MCP server http://127.0.0.1:9/mcp: "),
    ],
)
def test_a_server_that_cannot_be_reached_is_told(where: Any, said: str) -> None:
    class Lost(Notes):
        server = where
        timeout_s = 10.0

    with pytest.raises(EnvError) as told:
        Lost().reset(seed=0)
    assert said in str(told.value)


def test_a_tool_that_the_server_has_not_is_told() -> None:
    class Wishful(Notes):
        offered = ("note", "paint")

    env = Wishful()
    with pytest.raises(ConfigError, match=r"the server has no \['paint'\]; it has \['die'"):
        env.reset(seed=0)


def test_neither_threads_nor_processes_stay() -> None:
    gc.collect()
    threads, processes = mcp_threads(), children()
    closed, dropped = Notes(), Notes()
    for env in (closed, dropped):
        env.reset(seed=0)
    assert mcp_threads() == threads + 2
    closed.close()
    closed.close()
    del env, dropped
    gc.collect()
    assert mcp_threads() == threads
    assert children() == processes


def test_a_server_that_never_answers_is_given_up_and_ended() -> None:
    threads, processes = mcp_threads(), children()
    with pytest.raises(EnvError, match=r"no answer within 0\.5 s"):
        McpConnection((sys.executable, "-c", "import time; time.sleep(60)"), 0.5)
    assert mcp_threads() == threads
    assert children() == processes


def test_the_example_plays() -> None:
    assert EXAMPLE.read_text(encoding="utf-8").count("\n") <= 60
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("Thanks.\n")
