"""What a zygote that was taken over could send: it is data, or the box is given up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from turnhalle.envs.errors import SandboxError
from turnhalle.envs.sandbox.box import Box, BoxLost, Tier
from turnhalle.envs.sandbox.core import Isolation, Limits, Program, RunResult, Status
from turnhalle.envs.sandbox.guest import frames
from turnhalle.envs.sandbox.pool import PooledSandbox

FACTS = {
    "exit_code": 0,
    "signal": None,
    "limit": None,
    "num_left": 0,
    "is_clean": True,
    "cpu_s": 0.0,
    "wall_s": 0.0,
    "max_memory_bytes": 1,
}
LIMITS = Limits(output_bytes=100, value_bytes=1000, wall_s=0.2)
Answer = Callable[[dict[str, Any]], bytes]


def word(**frame: Any) -> bytes:
    body = json.dumps(frame).encode()
    return frames.pack(frames.CHANNEL, len(body).to_bytes(4, "big") + body)


def end(**facts: Any) -> bytes:
    return frames.pack(frames.END, json.dumps(FACTS | facts).encode())


class FakeBox(Box):
    """Answers a run with bytes; says nothing more after them."""

    def __init__(self, answer: Answer, log: list[str]) -> None:
        self._answer, self._log, self._bytes = answer, log, b""

    def start(self) -> None:
        self._log.append("start")

    def send(self, data: bytes, deadline: float) -> None:
        reader = frames.FrameReader()
        reader.feed(data)
        kind, payload = reader.take() or (b"", b"")
        if kind == frames.RUN:
            self._bytes += self._answer(json.loads(payload))

    def receive(self, deadline: float) -> bytes:
        if not self._bytes:
            raise BoxLost("silent")
        data, self._bytes = self._bytes[:7], self._bytes[7:]
        return data

    def end(self) -> None:
        self._log.append("end")


class FakeTier(Tier):
    isolation = Isolation("unsafe")

    def __init__(self, answer: Answer) -> None:
        self.answer, self.log = answer, list[str]()

    def make_box(self) -> Box:
        return FakeBox(self.answer, self.log)


def run(answer: Answer, entry: str | None = "f") -> tuple[RunResult, list[str]]:
    tier = FakeTier(answer)
    with PooledSandbox(tier, 1) as sandbox:
        return sandbox.run(Program("", entry), LIMITS), tier.log


def test_one_value_and_a_good_end_are_a_value() -> None:
    result, log = run(lambda _: word(phase="call") + word(value={"t": [1]}) + end())
    assert (result.status, result.value, result.flags) == (Status.OK, (1,), ())
    assert log == ["start", "end"]


@pytest.mark.parametrize(
    ("sent", "status", "flags"),
    [
        (word(value=1) + word(value=1), Status.BAD_RESULT, {"extra_frames", "exit_at_import"}),
        (word(value=1) + word(error="exit"), Status.BAD_RESULT, {"extra_frames"}),
        (word(value=1, other=2), Status.OK, set()),
        (word(other=2), Status.BAD_RESULT, {"malformed_frame"}),
        (word(call=["f", []]), Status.BAD_RESULT, {"malformed_frame"}),
        (word(value={"x": 1}), Status.BAD_RESULT, set()),
        (word(bad="no", is_custom="yes"), Status.BAD_RESULT, set()),
        (word(error="memory"), Status.NO_RESULT, set()),
        (frames.pack(frames.CHANNEL, b"\xff" * 4), Status.BAD_RESULT, {"malformed_frame"}),
        (frames.pack(frames.CHANNEL, b"\0\0\0\2[]"), Status.BAD_RESULT, {"malformed_frame"}),
        (frames.pack(frames.CHANNEL, b"\0\0\0\1"), Status.BAD_RESULT, {"malformed_frame"}),
        (b"", Status.NO_RESULT, {"exit_at_import"}),
    ],
)
def test_every_other_word_is_no_value(sent: bytes, status: Status, flags: set[str]) -> None:
    result, _ = run(lambda _: word(phase="call") + sent + end() if sent else end())
    assert result.status is status
    assert set(result.flags) == flags - ({"exit_at_import"} if sent else set())
    assert result.value is None or status is Status.OK


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"signal": 9, "exit_code": None}, Status.SIGNAL),
        ({"exit_code": 1}, Status.EXIT_NONZERO),
        ({"limit": "cpu"}, Status.TIMEOUT_CPU),
        ({"limit": "wall"}, Status.TIMEOUT_WALL),
        ({"limit": "output"}, Status.OUTPUT_LIMIT),
        ({"limit": "processes"}, Status.PROC_LIMIT),
        ({"signal": 24, "exit_code": None}, Status.TIMEOUT_CPU),
        ({"signal": 9, "exit_code": None, "cpu_s": 99.0}, Status.TIMEOUT_CPU),
    ],
)
def test_a_value_counts_for_nothing_if_the_end_was_bad(
    facts: dict[str, Any], status: Status
) -> None:
    result, _ = run(lambda _: word(phase="call") + word(value=1) + end(**facts))
    assert (result.status, result.value) == (status, None)


def test_output_is_capped_by_the_host_too() -> None:
    result, _ = run(lambda _: frames.pack(frames.STDOUT, b"x" * 5000) + end(), entry=None)
    assert result.stdout == "x" * 100


def test_a_program_that_kills_two_boxes_is_to_blame_if_a_third_works() -> None:
    def answer(request: dict[str, Any]) -> bytes:
        if request["code"] == "":
            return frames.pack(frames.LOST, b"gone")
        return word(phase="call") + word(value=[1, "a"]) + end()

    result, log = run(answer)
    assert (result.status, result.flags) == (Status.SIGNAL, ("killed_box",))
    assert log == ["start", "end", "start", "end", "start", "end"]


@pytest.mark.parametrize(
    "sent",
    [
        frames.pack(frames.LOST, b"gone"),
        frames.pack(b"?", b""),
        b"",
        (2**32 - 1).to_bytes(4, "big") + b"O",
    ],
)
def test_boxes_that_fail_whatever_runs_are_our_fault(sent: bytes) -> None:
    with pytest.raises(SandboxError):
        run(lambda _: sent)


def test_a_box_that_is_lost_once_is_replaced_unseen() -> None:
    answers = iter([b"", word(phase="call") + word(value=1) + end()])
    result, log = run(lambda _: next(answers))
    assert result.value == 1
    assert log == ["start", "end", "start", "end"]


def test_a_silent_box_beyond_the_wall_is_a_timeout() -> None:
    def answer(_: dict[str, Any]) -> bytes:
        time.sleep(0.3)
        return b""

    result, _ = run(answer)
    assert result.status is Status.TIMEOUT_WALL


def test_a_box_that_does_not_start_is_tried_once_more() -> None:
    class Broken(FakeBox):
        def start(self) -> None:
            super().start()
            raise SandboxError("no")

    tier = FakeTier(lambda _: b"")
    tier.make_box = lambda: Broken(tier.answer, tier.log)  # type: ignore[method-assign]
    with PooledSandbox(tier, 1) as sandbox, pytest.raises(SandboxError, match="no"):
        sandbox.run(Program(""))
    assert tier.log == ["start", "start"]


@pytest.mark.parametrize("error", [SandboxError("no daemon"), OSError("no cgroup")])
def test_a_box_that_cannot_take_the_limits_is_replaced_once(error: Exception) -> None:
    failures = [error]

    class Unprepared(FakeBox):
        def prepare(self, limits: Limits) -> None:
            if failures:
                raise failures.pop()

    tier = FakeTier(lambda _: word(phase="call") + word(value=1) + end())
    tier.make_box = lambda: Unprepared(tier.answer, tier.log)  # type: ignore[method-assign]
    with PooledSandbox(tier, 1) as sandbox:
        assert sandbox.run(Program("", "f"), LIMITS).value == 1
        assert tier.log == ["start", "end", "start"]
        sandbox._discard(sandbox._slots[0])
        failures += [error, error]
        with pytest.raises(SandboxError, match=str(error)):
            sandbox.run(Program("", "f"), LIMITS)
        assert tier.log[4:] == ["start", "end", "start", "end"]


def test_the_time_that_boxes_take_to_start_is_no_timeout_of_the_program() -> None:
    class Slow(FakeBox):
        def start(self) -> None:
            super().start()
            time.sleep(1.5 * LIMITS.wall_s)

        def prepare(self, limits: Limits) -> None:
            time.sleep(1.5 * LIMITS.wall_s)

    answers = iter([b"", word(phase="call") + word(value=1) + end()])
    tier = FakeTier(lambda _: next(answers))
    tier.make_box = lambda: Slow(tier.answer, tier.log)  # type: ignore[method-assign]
    with PooledSandbox(tier, 1) as sandbox:
        result = sandbox.run(Program("", "f"), LIMITS)
    assert (result.status, result.value) == (Status.OK, 1)


@pytest.mark.parametrize("kind", [frames.LOST, frames.HELLO])
def test_a_box_that_answers_a_ping_with_anything_else_is_replaced(
    kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Orphaned(FakeBox):
        """Its supervisor lives, its zygote does not."""

        def send(self, data: bytes, deadline: float) -> None:
            super().send(data, deadline)
            if data == frames.pack(frames.PING):
                self._bytes += frames.pack(kind, b"the zygote ended")

    monkeypatch.setattr("turnhalle.envs.sandbox.pool._PING_AFTER_S", 0.0)
    tier = FakeTier(lambda _: word(phase="call") + word(value=1) + end())
    tier.make_box = lambda: Orphaned(tier.answer, tier.log)  # type: ignore[method-assign]
    with PooledSandbox(tier, 1) as sandbox:
        sandbox.warm_up()
        assert sandbox.run(Program("", "f"), LIMITS).value == 1
        assert tier.log == ["start", "end", "start"]


def test_a_run_in_another_sandbox_is_not_nested() -> None:
    value = word(phase="call") + word(value=1) + end()
    outer = FakeTier(lambda _: word(phase="call") + word(call=["f", []]) + word(value=1) + end())
    inner = FakeTier(lambda _: value)
    with PooledSandbox(outer, 1) as checkers, PooledSandbox(inner, 2) as candidates:
        candidates.warm_up()

        def call(name: str, arguments: list[Any]) -> Any:
            return candidates.run(Program("", "f"), LIMITS).value

        assert checkers.run(Program("", "f"), LIMITS, on_call=call).value == 1
        assert inner.log == ["start", "start"]
