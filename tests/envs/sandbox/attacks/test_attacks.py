"""Every attack of the corpus in every tier: nothing is reached or left, and the next run is clean.

An attack is a file beside this one. Its head says what must hold: `ends` (statuses it may end with;
all but `sandbox_error` if it says nothing), `within` (seconds of wall time), `entry`, `runs` (how
often in one slot), `wall` (a wall limit in seconds of its own), `beside` (another run must survive
it), `gap` (a gap of the machine, as the record names it, where there is no point in trying), `wild`
(only ever run where walls hold it).
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from turnhalle.envs.sandbox.core import Limits, Program, RunResult, Sandbox, Status

HERE = Path(__file__).parent
PRELUDE = (HERE / "prelude.py").read_text(encoding="utf-8")
LIMITS = Limits(
    cpu_s=0.5, wall_s=2.0, memory_bytes=128 * 2**20, disk_bytes=8 * 2**20, max_processes=8
)
GRACE_S = 1.0
"""How far beyond its wall limit a run may be seen to end, on a machine that does other work."""


@dataclass(frozen=True)
class Attack:
    """One file of the corpus."""

    name: str
    code: str
    head: dict[str, str] = field(hash=False)

    @property
    def limits(self) -> Limits:
        return replace(LIMITS, wall_s=float(self.head.get("wall", LIMITS.wall_s)))

    @property
    def ends(self) -> set[Status]:
        said = self.head.get("ends", "").split()
        return {Status(name) for name in said} or set(Status) - {Status.SANDBOX_ERROR}


def read_attack(path: Path) -> Attack:
    code = path.read_text(encoding="utf-8")
    head = dict(re.findall(r"^# (\w+): (.+)$", code, re.MULTILINE))
    return Attack(path.stem, code, head)


ATTACKS = [read_attack(path) for path in sorted(HERE.glob("[ri][0-9]*.py"))]
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


class Host:
    """What an attack may try to reach on this machine, and what is looked at after it."""

    def __init__(self, folder: Path, token: str, secret: str) -> None:
        self.folder, self.token, self.secret = folder, token, secret
        self.secret_file = folder / f"{token}.key"
        folder.chmod(0o755)  # so that walls are needed, and no mere rights of files
        self.secret_file.write_text(secret, encoding="utf-8")
        self._left_open = os.open(self.secret_file, os.O_RDONLY)
        os.set_inheritable(self._left_open, True)
        self.connections: list[str] = []
        self._listeners = [socket.create_server(("127.0.0.1", 0))]
        for address in (f"\0{token}", f"{folder}/service"):
            self._listeners.append(socket.socket(socket.AF_UNIX))
            self._listeners[-1].bind(address)
            self._listeners[-1].listen()
        (folder / "service").chmod(0o777)
        for listener in self._listeners:
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                listener.accept()[0].close()
            except OSError:
                return
            self.connections.append(str(listener.family))

    def arm(self, attack: Attack) -> Program:
        """The attack as a program, its marks replaced by what is here."""
        code = PRELUDE + attack.code
        for mark, value in {
            "TOKEN": self.token,
            "SECRET_FILE": str(self.secret_file),
            "SECRET": self.secret,
            "FOLDER": str(self.folder),
            "PORT": str(self._listeners[0].getsockname()[1]),
        }.items():
            code = code.replace(f"@{mark}@", value)
        return Program(code, entry=attack.head.get("entry"))

    def processes(self) -> list[str]:
        """Processes of the attack that are there, by the name it gave itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if f"({self.token})" in text:
                found.append(text[:60])
        return found

    def harm(self) -> list[str]:
        """What is not as it was, of what an attack might have changed."""
        found = [f"connection: {family}" for family in self.connections]
        if self.secret_file.read_text(encoding="utf-8") != self.secret:
            found.append("the file changed")
        folders = (Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"), Path("/"), Path.cwd())
        for folder in folders:
            found += [str(path) for path in folder.glob(f"*{self.token}*")]
        found += [str(path) for path in Path.cwd().glob("core*")]
        return found

    def close(self) -> None:
        os.close(self._left_open)
        for listener in self._listeners:
            # To close a socket does not wake who waits on it; to shut it down does.
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    token, secret = f"t{os.urandom(7).hex()}", os.urandom(16).hex()
    os.environ["TURNHALLE_CANARY"] = secret
    with TemporaryDirectory(prefix="turnhalle-host-") as folder:  # pytest's own is closed to others
        host = Host(Path(folder), token, secret)
        yield host
        host.close()
    del os.environ["TURNHALLE_CANARY"]


LANDLOCK = pytest.param("landlock", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["bubblewrap", "docker", LANDLOCK])
def sandbox(request: pytest.FixtureRequest, host: Host, open_tier: Any) -> Iterator[Sandbox]:
    with open_tier(request.param, slots=2) as sandbox:  # after the host: it could inherit secrets
        yield sandbox


@each_attack
def test_an_attack_is_contained(attack: Attack, sandbox: Sandbox, host: Host) -> None:
    for gap in sandbox.isolation.gaps:
        if attack.head.get("gap", "\0") in gap:
            pytest.skip(f"{sandbox.isolation.tier}: {gap}")
    program = host.arm(attack)
    for _ in range(int(attack.head.get("runs", 1))):
        started = time.monotonic()
        result = run_attack(sandbox, attack, program)
        took = time.monotonic() - started
        said = f"{result.status} {result.detail} in {took:.2f} s\n{result.stdout}\n{result.stderr}"
        assert result.status in attack.ends, said
        reached = re.findall(r"^REACHED.*", result.stdout, re.MULTILINE)
        assert not reached, "\n".join(reached)
        assert host.secret not in result.stdout + result.stderr
        assert len(result.stdout.encode("utf-8", "surrogateescape")) <= LIMITS.output_bytes
        assert len(result.stderr.encode("utf-8", "surrogateescape")) <= LIMITS.output_bytes
        assert took < float(attack.head.get("within", attack.limits.wall_s)) + GRACE_S, said
        assert_unharmed(sandbox, host)


def run_attack(sandbox: Sandbox, attack: Attack, program: Program) -> RunResult:
    """Run it, `beside` another run in a slot of its own, which must not be disturbed."""
    if "beside" not in attack.head:
        return sandbox.run(program, attack.limits)
    victim = "import time\nopen('victim', 'w').close()\ntime.sleep(1)\nprint('alive')"
    found: list[RunResult] = []
    thread = threading.Thread(target=lambda: found.append(sandbox.run(Program(victim), LIMITS)))
    thread.start()
    time.sleep(0.2)
    result = sandbox.run(program, attack.limits)
    thread.join()
    assert (found[0].status, found[0].stdout) == (Status.OK, "alive\n")
    return result


def assert_unharmed(sandbox: Sandbox, host: Host) -> None:
    """Nothing lives on, nothing of the host has changed, and the sandbox serves."""
    end = time.monotonic() + GRACE_S
    while (left := host.processes()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not left
    assert not host.harm()
    after = sandbox.run(Program("print(sum(range(5)))"), LIMITS)
    assert (after.status, after.stdout, after.flags) == (Status.OK, "10\n", ())
