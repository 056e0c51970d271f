"""Containers: when one is used again, when replaced, and that none is ever left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.core import Limits, Program, Sandbox, Status
from turnhalle.envs.sandbox.docker import owner
from turnhalle.envs.sandbox.docker.client import connect
from turnhalle.envs.sandbox.docker.options import IMAGE, DockerOptions
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox

WHERE = "import socket; print(socket.gethostname())"
LEAVE = {
    "a process": "import os, time\nif os.fork() == 0:\n    time.sleep(60)",
    "a crash": "import os\nos.abort()",
    "shared memory": "import ctypes\nctypes.CDLL(None).shmget(7, 4096, 0o1600)",
    "a folder too deep": "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')",
}


@pytest.fixture
def docker(open_tier: Any) -> Iterator[Any]:
    open_tier("docker", slots=1).close()  # skips, or fails in CI, where there is none
    client = connect()
    yield client
    client.close()


def where(sandbox: Sandbox, limits: Limits | None = None) -> str:
    """The name of the container that runs a program."""
    result = sandbox.run(Program(WHERE), limits)
    assert result.status is Status.OK
    return result.stdout.strip()


def containers(client: Any, pid: int) -> list[str]:
    """Containers that a process of this machine owns."""
    found = client.api.containers(all=True, filters={"label": f"{owner.LABEL}=sandbox"})
    return [c["Id"] for c in found if c["Labels"]["turnhalle.owner"].startswith(f"{pid} ")]


def wait_until_none(client: Any, pid: int) -> None:
    end = time.monotonic() + 20
    while (left := containers(client, pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left


def test_a_container_is_used_until_it_is_worn(open_tier: Any) -> None:
    with open_tier("docker", slots=1, recycle_after=3) as sandbox:
        names = [where(sandbox) for _ in range(7)]
    assert names == [names[0]] * 3 + [names[3]] * 3 + [names[6]]
    assert len(set(names)) == 3


def test_a_fresh_container_for_every_run_if_asked_for(open_tier: Any) -> None:
    with open_tier("docker", slots=1, docker=DockerOptions(fresh=True)) as sandbox:
        assert len({where(sandbox) for _ in range(4)}) == 4


@pytest.mark.parametrize("code", LEAVE.values(), ids=LEAVE.keys())
def test_a_container_in_doubt_is_replaced(open_tier: Any, code: str) -> None:
    with open_tier("docker", slots=1) as sandbox:
        before = where(sandbox)
        assert where(sandbox) == before
        sandbox.run(Program(code))
        assert where(sandbox) != before


def test_files_that_can_be_removed_cost_no_container(open_tier: Any) -> None:
    leave = "import os\nos.mkdir('a')\nopen('a/b', 'w').close()\nos.symlink('/', 'c')"
    look = "import os\nprint(os.listdir('/tmp'))"
    with open_tier("docker", slots=1) as sandbox:
        before = where(sandbox)
        assert sandbox.run(Program(leave)).status is Status.OK
        assert sandbox.run(Program(look)).stdout == "[]\n"
        assert where(sandbox) == before


def test_other_limits_are_those_of_the_container(open_tier: Any) -> None:
    """Children that stay below the limit each, so that only the container's own can hold them."""
    code = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        held = b'x' * (60 << 20)\n"
        "        time.sleep(0.5)\n"
        "        os._exit(len(held) & 0)\n"
        "for _ in range(4):\n"
        "    os.wait()\n"
    )
    with open_tier("docker", slots=1) as sandbox:
        assert sandbox.run(Program(code), Limits(memory_bytes=2**29)).status is Status.OK
        assert sandbox.run(Program(code), Limits(memory_bytes=2**27)).status is Status.MEMORY
        assert sandbox.run(Program(code), Limits(memory_bytes=2**29)).status is Status.OK


def test_a_refused_process_is_said_to_be_one(open_tier: Any) -> None:
    code = "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(9)"
    with open_tier("docker", slots=1) as sandbox:
        assert sandbox.run(Program(code)).status is Status.PROC_LIMIT


def test_closing_leaves_no_container(docker: Any, open_tier: Any) -> None:
    before = set(containers(docker, os.getpid()))
    sandbox = open_tier("docker", slots=2)
    sandbox.run(Program("import os; os.abort()"))
    assert len(set(containers(docker, os.getpid())) - before) >= 2
    sandbox.close()
    assert set(containers(docker, os.getpid())) <= before


_HOST = """
import sys, threading
from turnhalle.envs.sandbox.core import Limits, Program
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox
sandbox = open_sandbox(SandboxOptions(tier="docker", slots=2))
spin = Program("import os\\nos.fork()\\nwhile True:\\n    pass")
threading.Thread(target=sandbox.run, args=(spin, Limits(cpu_s=600, wall_s=600))).start()
print("ready", flush=True)
threading.Event().wait()
"""


def test_nothing_outlives_a_killed_owner(docker: Any) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOST], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        time.sleep(0.3)  # so that the program runs
        assert len(containers(docker, host.pid)) >= 2
        host.send_signal(signal.SIGKILL)
        host.wait()
        wait_until_none(docker, host.pid)


def test_what_a_dead_owner_left_is_removed_and_the_rest_is_not(docker: Any) -> None:
    with subprocess.Popen(["sleep", "60"]) as living, subprocess.Popen(["true"]) as dead:
        labels = owner.labels("test")

        def left_by(pid: int) -> str:
            since = owner._started_at(pid) or "1"
            own = labels | {"turnhalle.owner": f"{pid} {since}"}
            config = {"labels": own, "network_disabled": True, "init": True}
            return str(docker.containers.run(IMAGE, ["sleep", "60"], detach=True, **config).id)

        kept = left_by(living.pid)
        dead.wait()
        orphan = left_by(dead.pid)
        reused = labels | {"turnhalle.owner": f"{living.pid} 1"}
        again = docker.containers.run(IMAGE, ["sleep", "60"], detach=True, labels=reused, init=True)
        try:
            assert owner.remove_orphans(docker) >= 2
            there = {c["Id"] for c in docker.api.containers(all=True)}
            assert kept in there
            assert not {orphan, again.id} & there
        finally:
            docker.api.remove_container(kept, force=True)
            living.kill()


def test_an_image_or_runtime_that_is_not_there_is_named(docker: Any) -> None:
    for options, said in (
        (DockerOptions(image="no/such:image"), "`turnhalle sandbox image`"),
        (DockerOptions(runtime="runsc-9"), "knows no runtime 'runsc-9', only"),
    ):
        with pytest.raises(SandboxUnavailableError, match=re.escape(said)):
            open_sandbox(SandboxOptions(tier="docker", docker=options))


def test_no_daemon_is_said_with_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxUnavailableError, match=r"apt-get install docker\.io"):
        open_sandbox(SandboxOptions(tier="docker"))


def test_many_containers_leave_no_descriptor_and_no_thread(open_tier: Any) -> None:
    def held(num_runs: int) -> tuple[int, int]:
        for number in range(num_runs):
            sandbox.run(Program("import os; os.abort()" if number % 10 == 9 else "print(1)"))
        time.sleep(0.5)  # for the container that is being ended
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    with open_tier("docker", slots=1, recycle_after=2) as sandbox:
        fds, threads = held(20)  # by then the pool of connections to the daemon is full
        assert held(40) <= (fds + 3, threads)
