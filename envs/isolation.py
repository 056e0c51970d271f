"""Environments in processes of their own, which may hang, crash or flood and harm nobody else.

One helper process is started afresh (not forked from this one, which has threads); it imports the
environment once and forks itself for each episode, so that a process costs milliseconds. A process
that must go is killed, not asked. All of them end with this process, however it ends.

This is no sandbox: what runs there may read and write what the user may. Code that nobody trusts
belongs in `envs/sandbox`.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from . import errors
from .core import Message, StepInfo, StopReason, ToolSpec
from .errors import ConfigError, EnvError, EpisodeOverError, TurnhalleError
from .tasks import Task

if TYPE_CHECKING:
    from .registry import EnvFactory

_MAX_ANSWER_BYTES = 2**28
"""A longer answer is a flood."""

_FAREWELL_S = 5.0
"""Longest wait for an environment to close."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """How far apart an environment is held."""

    memory_bytes: int | None = None
    """Most address space that its process may take beyond what it starts with."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where another process finds an environment; JSON."""

    module: str
    """Its name, or its file where it was loaded by path."""
    cls: str
    id: str | None
    kwargs: dict[str, Any]
    memory_bytes: int | None

    @classmethod
    def of(cls, factory: EnvFactory, isolation: Isolation) -> Origin:
        """Where the environments of a factory come from.

        Raises:
            ConfigError: Another process could not find the class, or not be told its options.
        """
        found = factory.cls
        module = sys.modules[found.__module__]
        if found.__module__ == "__main__" or "<locals>" in found.__qualname__:
            raise ConfigError(
                f"{factory.id} is defined in a script or function, where no other process finds "
                'it, as isolation="process" needs; move the class to the top of a module or file'
            )
        try:
            json.dumps(factory.kwargs)
        except TypeError as error:
            raise ConfigError(
                f'isolation="process" needs options of plain JSON; {factory.id}: {error}'
            ) from error
        is_file = hasattr(module, "__turnhalle_name__")
        name = str(module.__file__) if is_file else found.__module__
        id = factory.spec.id if factory.spec else None
        return cls(name, found.__qualname__, id, factory.kwargs, isolation.memory_bytes)


class IsolatedEnv:
    """Answers to what rollouts ask of a `TextEnv`, which is in a process of its own."""

    def __init__(self, factory: EnvFactory, isolation: Isolation) -> None:
        """Prepare; the process is started by the first call.

        Raises:
            ConfigError: The environment cannot be found, or not be built, by another process.
        """
        self.id = factory.id
        self.metadata = {**factory.cls.metadata, "blocking": True}
        self.difficulty: int = factory.kwargs.get("difficulty") or factory.cls.difficulty
        self._factory, self._isolation = factory, isolation
        self._origin = Origin.of(factory, isolation)
        self._task: Task | None = None
        self._state: dict[str, Any] | None = None
        """Where a fork begins, until its process is started."""
        self._process: _Process | None = None
        self._is_killed = False
        self._lock = threading.Lock()

    @property
    def task(self) -> Task:
        """The task of this episode.

        Raises:
            EpisodeOverError: No episode was started.
        """
        if self._task is None:
            raise EpisodeOverError(f"{self.id}: call reset() first")
        return self._task

    def reset(self, *, options: dict[str, Any] | None = None) -> tuple[str, StepInfo]:
        """Start an episode, as `TextEnv.reset` does."""
        observation, info, task = self._ask("reset", options)
        self._task = Task.from_json(task)
        return observation, _read_info(info)

    def step(self, action: str) -> tuple[str, float, bool, bool, StepInfo]:
        """Take one turn, as `TextEnv.step` does.

        Raises:
            EnvError: The environment has a bug, or its process died.
        """
        observation, reward, terminated, truncated, info = self._ask("step", action)
        return observation, reward, terminated, truncated, _read_info(info)

    def expert(self) -> str:
        """The oracle's action."""
        action: str = self._ask("expert")
        return action

    def fork(self) -> Self:
        """Another environment in the same state, in another process."""
        other = type(self)(self._factory, self._isolation)
        other._state, other._task = self._ask("get_state"), self._task
        return other

    def close(self) -> None:
        """Close the environment and end its process; one that takes long is killed."""
        if self._process is not None and not self._is_killed:
            self._process.settle(_FAREWELL_S)
            with suppress(TurnhalleError):
                self._ask("close")
        self.kill()
        if self._process is not None:
            self._process.close()

    def kill(self) -> None:
        """End the process, whatever it is at; a call that waits for it raises. Any thread may."""
        with self._lock:
            self._is_killed = True
            if self._process is not None:
                self._process.kill()

    def _ask(self, call: str, *arguments: Any) -> Any:
        """Let the process do something.

        Raises:
            TurnhalleError: What the environment raised; or an `EnvError`: its process died.
        """
        process = self._start()
        if (state := self._state) is not None:
            self._state = None
            self._ask("set_state", state)
        answer = process.ask(call, arguments)
        if "died" in answer:
            self.kill()
            process.close()
            raise EnvError(f"the process of {self.id} died in {call}: {answer['died']}")
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer["value"]

    def _start(self) -> _Process:
        with self._lock:
            if self._is_killed:
                raise EnvError(f"the process of {self.id} was killed")
            self._process = self._process or _Process(self._origin)
            return self._process


class _Process:
    """One process with an environment, and the socket to it."""

    def __init__(self, origin: Origin) -> None:
        self._helper = _helper()
        self._socket, self.number = self._helper.start(origin)
        self._file = self._socket.makefile("rb")

    def ask(self, call: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """The answer to a call; `died` where there will never be one."""
        with suppress(OSError):  # a process that is gone has left a word
            self._socket.sendall(json.dumps([call, *arguments]).encode() + b"\n")
        try:
            return self._read()
        except OSError as error:  # its end, or too long a farewell
            return {"died": str(error)}

    def settle(self, timeout_s: float) -> None:
        """From now on wait no longer than that."""
        self._socket.settimeout(timeout_s)

    def kill(self) -> None:
        """End it; whoever reads its answer is woken."""
        self._helper.kill(self.number)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free the socket."""
        self._file.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        while line := self._file.readline(_MAX_ANSWER_BYTES):
            if len(line) == _MAX_ANSWER_BYTES:
                return {"died": f"it answered more than {_MAX_ANSWER_BYTES >> 20} MiB"}
            # A process that dies may leave half a line; its helper then says how it died.
            with suppress(ValueError):
                answer: dict[str, Any] = json.loads(line)
                return answer
        return {"died": "killed"}


class _Helper:
    """The process that forks itself for each environment (`envs/zygote.py`)."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._numbers = itertools.count()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        code = f"from turnhalle.envs.zygote import main; main({theirs.fileno()})"
        with theirs:
            # A session of its own: Ctrl-C is for this process, which ends the others.
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=(theirs.fileno(),), start_new_session=True,
                stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        atexit.register(self.close)

    def start(self, origin: Origin) -> tuple[socket.socket, int]:
        """Start a process; the socket to it and its number."""
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        message = json.dumps({"start": number, "origin": asdict(origin)}).encode()
        with theirs:
            socket.send_fds(self._control, [message], [theirs.fileno()])
        return ours, number

    def kill(self, number: int) -> None:
        """End a process, if it is still there."""
        with suppress(OSError):  # a helper that is gone took all its processes along
            self._control.send(json.dumps({"kill": number}).encode())

    def close(self) -> None:
        """End the helper, and with it whatever it started."""
        self._control.close()
        self.process.wait()


_the_helper: _Helper | None = None
_helper_lock = threading.Lock()


def _helper() -> _Helper:
    """The helper of this process, started on first use and again should it have died."""
    global _the_helper
    with _helper_lock:
        if _the_helper is None or _the_helper.process.poll() is not None:
            _the_helper = _Helper()
        return _the_helper


def _read_info(data: Any) -> StepInfo:
    info: StepInfo = data
    info["messages"] = [Message(**message) for message in data["messages"]]
    if "tools" in data:
        info["tools"] = [ToolSpec(**tool) for tool in data["tools"]]
    if "stop" in data:
        info["stop"] = StopReason(data["stop"])
    return info
