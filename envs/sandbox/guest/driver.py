"""The candidate's process: run its code, send back what its function returns.

Nothing here is trusted: code that runs in this process can do whatever this module can. All it can
win is to send another value, which the host compares all the same.
"""

from __future__ import annotations

import atexit
import builtins
import json
import linecache
import marshal
import os
import struct
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from . import codec, frames, isolate

FILENAME = "<candidate>"
_LENGTH = struct.Struct("!I")


class Channel:
    """Frames of JSON to the host: u32 length and bytes."""

    max_bytes = 0
    """Of what is sent at once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, frame: dict[str, Any]) -> None:
        """Send one frame."""
        data = codec.dumps(frame).encode("ascii")
        frames.write_all(self._fd, _LENGTH.pack(len(data)) + data)

    def call(self, name: str, *arguments: Any) -> Any:
        """`call_host`: ask the host, wait for its answer."""
        frame = {"call": [name, [codec.encode(argument) for argument in arguments]]}
        if len(codec.dumps(frame)) > self.max_bytes:
            raise ValueError("arguments too large for call_host")
        with self._lock:
            self.send(frame)
            answer = json.loads(self.receive())
        if "raise" in answer:
            raise RuntimeError(answer["raise"])
        return codec.decode(answer["answer"])

    def receive(self) -> bytes:
        """The next frame: first the supervisor's request, then answers of the host."""
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        return self._receive(length)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = os.read(self._fd, count - len(data))
            if not more:
                raise EOFError("the host is gone")
            data += more
        return data


def run(channel_fd: int, config: dict[str, Any]) -> NoReturn:
    """Wait for a request, run its program and leave."""
    channel = Channel(channel_fd)
    request = marshal.loads(channel.receive())
    channel.max_bytes = request["limits"]["value_bytes"]
    isolate.bound(config, request["limits"])
    code = 1
    try:
        _show_source(request["code"])
        if request["has_calls"]:
            builtins.call_host = channel.call  # type: ignore[attr-defined]
        code = _call(channel, request) if request["entry"] else _script(request)
    except SystemExit as leaving:
        code = _exit_code(leaving)
        channel.send({"error": "exit"})
    except BaseException as error:
        _report(error)
        channel.send({"error": _kind(error)})
    if not request["entry"]:
        code = _finish(code)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            code = code or 1
    os._exit(code & 0xFF)


def dress(workdir: str) -> None:
    """The interpreter as a fresh one would be; done once, in the zygote: a fork copies it."""
    os.environ.clear()
    os.environ.update({"PATH": "/usr/bin:/bin", "HOME": workdir, "LANG": "C.UTF-8"})
    sys.argv = [FILENAME]
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(  # noqa: SIM115
            fd,
            "w" if fd else "r",
            buffering=1 if fd == 2 else -1,
            encoding="utf-8",
            errors="surrogateescape",
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _show_source(source: str) -> None:
    """Let tracebacks and `inspect` find the lines of the program."""
    linecache.cache[FILENAME] = (len(source), None, source.splitlines(keepends=True), FILENAME)


def _module(name: str) -> dict[str, Any]:
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module.__dict__


def _script(request: dict[str, Any]) -> int:
    exec(compile(request["code"], FILENAME, "exec", dont_inherit=True), _module("__main__"))
    return 0


def _call(channel: Channel, request: dict[str, Any]) -> int:
    namespace = _module("candidate")
    exec(compile(request["code"], FILENAME, "exec", dont_inherit=True), namespace)
    channel.send({"phase": "call"})
    if request["entry"] not in namespace:
        raise NameError(f"the code defines no {request['entry']!r}")
    value = namespace[request["entry"]](*[codec.decode(arg) for arg in request["args"]])
    try:
        encoded = codec.encode(value)
        data = codec.dumps(encoded)
    except codec.CodecError as error:
        channel.send({"bad": str(error), "is_custom": error.is_custom})
        return 0
    if len(data) > channel.max_bytes:
        channel.send({"bad": f"larger than {channel.max_bytes} bytes", "is_custom": False})
        return 0
    channel.send({"value": encoded})
    return 0


def _report(error: BaseException) -> None:
    """Print a traceback of the candidate's own frames."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != FILENAME:
        frames = frames.tb_next
    try:
        traceback.print_exception(type(error), error, frames)
    except BaseException:
        print(type(error).__name__, file=sys.stderr)


def _kind(error: BaseException) -> str:
    """Which limit an exception speaks of; a hint, which can only name a failure."""
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, BlockingIOError) or "can't start new thread" in str(error.args):
        return "processes"
    return "exception"


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    print(leaving.code, file=sys.stderr)
    return 1


def _finish(code: int) -> int:
    """What an interpreter does at the end of a script: wait for threads, run `atexit`."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException as error:
        _report(error)
        return code or 1
    return code
