"""One run over a box's stream: the request, the answers to calls, and all that comes back.

Everything read here was written by a candidate, or may have been: it is cut strictly, capped, and
only ever becomes data.
"""

from __future__ import annotations

import base64
import json
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from .box import Box, BoxLost
from .core import Json, Limits, OnCall, Program
from .guest import codec, frames

_GRACE_S = 5.0
"""Seconds beyond the wall limit after which a silent supervisor is given up."""
_LENGTH = struct.Struct("!I")
_MAX_CALLS_BYTES = 256 * 2**20
_OVERHEAD = 1024
"""Bytes around a value: tags of a frame, its length."""


class Forged(Exception):  # noqa: N818 - a fact about a candidate, never raised to a caller
    """The channel holds what the driver would never send."""


@dataclass(slots=True)
class Outcome:
    """What came back of one run."""

    facts: dict[str, Any] = field(default_factory=dict)
    """The supervisor's report: how the candidate ended, and which limit it was killed for."""
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    said: list[dict[str, Json]] = field(default_factory=list)
    """The last words on the channel: value, bad, error; one if nobody forged."""
    has_called: bool = False
    """Whether the import of the code ended and its function was called."""
    flags: set[str] = field(default_factory=set)
    forged: str = ""
    """Why the channel is malformed."""
    lost: str = ""
    """How the supervisor was lost, if it was: then nothing is known but what was read."""


def ping(box: Box, timeout_s: float) -> None:
    """Ask a box whether it is there, with its next candidate.

    Raises:
        BoxLost: It is not.
        FrameError: It answers with what is no frame.
    """
    deadline = time.monotonic() + timeout_s
    box.send(frames.pack(frames.PING), deadline)
    kind, said = frames.FrameReader(_OVERHEAD).wait(lambda: box.receive(deadline))
    if kind != frames.PING:
        raise BoxLost(said[:500].decode(errors="replace") or f"a frame of kind {kind!r}")


def exchange(box: Box, program: Program, limits: Limits, on_call: OnCall | None) -> Outcome:
    """Send a program into a box, answer its calls, give what came back.

    Raises:
        BoxLost: The box died or fell silent.
        CodecError: An argument is of no type that may cross.
    """
    request = _request(program, limits, has_calls=on_call is not None)
    deadline = time.monotonic() + limits.wall_s + _GRACE_S
    box.send(frames.pack(frames.RUN, request), deadline)
    reader, outcome = frames.FrameReader(), Outcome()
    channel = _Channel(limits, on_call, outcome)
    while True:
        try:
            kind, payload = reader.wait(lambda: box.receive(deadline))
        except frames.FrameError as error:
            outcome.lost = str(error)
            return outcome
        if kind == frames.STDOUT:
            _extend(outcome.stdout, payload, limits.output_bytes)
        elif kind == frames.STDERR:
            _extend(outcome.stderr, payload, limits.output_bytes)
        elif kind == frames.CHANNEL:
            for answer in channel.hear(payload):
                box.send(frames.pack(frames.CHANNEL, answer), deadline)
        elif kind == frames.END:
            outcome.facts = json.loads(payload)
            channel.end()
            return outcome
        else:
            outcome.lost = payload[:500].decode(errors="replace") or f"a frame of kind {kind!r}"
            return outcome


def _extend(output: bytearray, data: bytes, cap: int) -> None:
    output += data[: cap - len(output)]


def _request(program: Program, limits: Limits, *, has_calls: bool) -> bytes:
    sizes = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    request = {
        "code": program.code,
        "entry": program.entry,
        "args": [codec.encode(argument) for argument in program.args],
        "stdin": base64.b64encode(program.stdin.encode("utf-8", "surrogateescape")).decode(),
        "limits": sizes,
        "has_calls": has_calls,
        "channel_bytes": _MAX_CALLS_BYTES if has_calls else limits.value_bytes + _OVERHEAD,
    }
    return json.dumps(request).encode()


class _Channel:
    """Reads the candidate's frames: calls while it runs, then exactly one last word."""

    def __init__(self, limits: Limits, on_call: OnCall | None, outcome: Outcome) -> None:
        self._outcome = outcome
        self._max_bytes = limits.value_bytes + _OVERHEAD
        self._on_call = on_call
        self._buffer = bytearray()

    def hear(self, data: bytes) -> list[bytes]:
        """Take bytes in; gives the answers to send."""
        if self._outcome.forged:
            return []
        self._buffer += data
        answers = []
        try:
            while (frame := self._take()) is not None:
                if (answer := self._read(frame)) is not None:
                    answers.append(answer)
        except (Forged, codec.CodecError) as error:
            self._outcome.forged = str(error)
            self._outcome.flags.add("malformed_frame")
        return answers

    def end(self) -> None:
        """The candidate is dead: what is left over was cut short."""
        if self._buffer and not self._outcome.forged:
            self._outcome.forged = "a frame that was cut short"
            self._outcome.flags.add("malformed_frame")

    def _take(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self._max_bytes:
            raise Forged(f"a frame of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        data = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return data

    def _read(self, data: bytes) -> bytes | None:
        frame = codec.parse(data)
        if not isinstance(frame, dict) or not frame:
            raise Forged("a frame that is no object")
        kind = next(iter(frame))
        if kind == "phase":
            self._outcome.has_called = True
        elif kind == "call" and self._on_call is not None and not self._outcome.said:
            return self._answer(frame["call"])
        elif kind in ("value", "bad", "error"):
            self._outcome.said.append(frame)
            if len(self._outcome.said) > 1:
                self._outcome.flags.add("extra_frames")
                del self._outcome.said[2:]
        else:
            raise Forged("a frame of no kind that is allowed here")
        return None

    def _answer(self, call: Json) -> bytes:
        assert self._on_call is not None
        if not (isinstance(call, list) and len(call) == 2 and isinstance(call[0], str)):
            raise Forged("a call without name and arguments")
        name, arguments = call[0], codec.decode(call[1])
        if not isinstance(arguments, list):
            raise Forged("a call without a list of arguments")
        try:
            frame = {"answer": codec.encode(self._on_call(name, arguments))}
        except Exception as error:
            # The contract of `Sandbox.run`: whatever the host's function raises is raised inside.
            frame = {"raise": f"{error}"[:2000]}
        body = json.dumps(frame).encode()
        return _LENGTH.pack(len(body)) + body
