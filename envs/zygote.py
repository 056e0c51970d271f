"""The other side of `envs/isolation.py`: forks itself for each environment, and serves one.

The helper has one thread and never runs an environment's code beyond its import, so it cannot
hang in one. A process that it forked answers calls, a line of JSON each, until its socket ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gymnasium.envs.registration import EnvSpec

from .core import StepInfo
from .env import TextEnv
from .errors import EnvError, OutsideError, TurnhalleError
from .isolation import Origin
from .modules import import_module
from .registry import EnvFactory

_PR_SET_PDEATHSIG = 1


def main(control_fd: int) -> None:
    """Start and kill processes as told, until whoever tells is gone."""
    control = socket.socket(fileno=control_fd)
    children: dict[int, _Child] = {}
    wakened, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, wakened], [], [])
        if wakened in ready:
            wakened.recv(4096)
            _reap(children)
        if control in ready:
            message, fds, _, _ = socket.recv_fds(control, 2**20, 1)
            if not message:
                return  # the kernel ends the children: they asked it to
            told = json.loads(message)
            if "kill" in told:
                _kill(children, told["kill"])
            else:
                link = socket.socket(fileno=fds[0])
                _start(children, told["start"], Origin(**told["origin"]), link)


@dataclass(slots=True)
class _Child:
    number: int
    link: socket.socket
    """A copy of its end, to say how it died when it cannot."""


def _start(children: dict[int, _Child], number: int, origin: Origin, link: socket.socket) -> None:
    try:
        factory = _factory(origin)
        pid = os.fork()
    except Exception as error:
        _send(link, _told(error))
        link.close()
        return
    if pid:
        children[pid] = _Child(number, link)
        return
    try:
        for child in children.values():
            child.link.close()
        _prepare(origin.memory_bytes)
        _serve(link, factory)
        sys.stdout.flush()
    finally:
        os._exit(0)


def _kill(children: dict[int, _Child], number: int) -> None:
    # Nobody but `_reap` frees a pid, so it still means the child.
    for pid, child in children.items():
        if child.number == number:
            os.kill(pid, signal.SIGKILL)


def _reap(children: dict[int, _Child]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            link = children.pop(pid).link
            link.setblocking(False)
            code = os.waitstatus_to_exitcode(status)
            how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
            with suppress(OSError):  # nobody listens
                link.send(b"\n" + json.dumps({"died": how}).encode() + b"\n")
            link.close()


def _factory(origin: Origin) -> EnvFactory:
    """What builds the environment here.

    Raises:
        UnknownNameError: The class is not where the other process has it.
    """
    found: Any = import_module(origin.module)
    for name in origin.cls.split("."):
        found = getattr(found, name)
    spec = None if origin.id is None else EnvSpec(origin.id, found, kwargs=origin.kwargs)
    return EnvFactory(found, spec, origin.kwargs)


def _prepare(memory_bytes: int | None) -> None:
    """Become a process that may be killed, ends with its parent, and has its memory bounded."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if memory_bytes is not None:
        with open("/proc/self/statm", encoding="ascii") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + memory_bytes, now + memory_bytes))


def _serve(link: socket.socket, factory: EnvFactory) -> None:
    env: TextEnv | None = None
    for line in link.makefile("rb"):
        call, *arguments = json.loads(line)
        try:
            env = env or factory()
            answer: dict[str, Any] = {"value": _do(env, call, arguments)}
        except BaseException as error:  # one that would end the process, too
            answer = _told(error)
        _send(link, answer)


def _do(env: TextEnv, call: str, arguments: list[Any]) -> Any:
    if call == "reset":
        observation, info = env.reset(options=arguments[0])
        return observation, _plain(info), env.task.to_json()
    if call == "step":
        if (step_async := getattr(env, "step_async", None)) is not None:
            *step, info = asyncio.run(step_async(*arguments))
        else:
            *step, info = env.step(*arguments)
        return *step, _plain(info)
    return getattr(env, call)(*arguments)


def _plain(info: StepInfo) -> dict[str, Any]:
    plain: dict[str, Any] = {**info, "messages": [m.model_dump() for m in info["messages"]]}
    if "tools" in info:
        plain["tools"] = [tool.model_dump() for tool in info["tools"]]
    return plain


def _told(error: BaseException) -> dict[str, Any]:
    """An error as an answer; what failed outside stays known as that."""
    if isinstance(error, EnvError) and isinstance(error.__cause__, OutsideError):
        return {"error": type(error.__cause__).__name__, "message": str(error)}
    if isinstance(error, TurnhalleError):
        return {"error": type(error).__name__, "message": str(error)}
    return {"error": "EnvError", "message": f"{type(error).__name__}: {error}"}


def _send(link: socket.socket, answer: dict[str, Any]) -> None:
    with suppress(OSError):  # nobody listens any more: the socket's end says the same
        link.sendall(json.dumps(answer).encode() + b"\n")
