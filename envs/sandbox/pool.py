"""Slots and their boxes: first come, first served; a box in doubt is replaced, never mended."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..errors import ConfigError, SandboxError
from .box import Box, BoxLost, Tier
from .core import Limits, OnCall, Program, RunResult, Sandbox, Status, Usage
from .guest.codec import CodecError
from .guest.frames import FrameError
from .judge import judge
from .protocol import exchange, ping

_PING_AFTER_S = 5.0
"""Seconds of idleness after which a box is asked whether it is there before it is used."""
_PING_TIMEOUT_S = 5.0
_MAX_DEPTH = 4
_running: ContextVar[tuple[Sandbox, ...]] = ContextVar("running", default=())
"""The sandboxes of the runs that this one is nested in, outermost first: a test's code that calls
a candidate is one."""
_CANARY = Program("def f():\n    return [1, 'a']", entry="f")


@dataclass(slots=True)
class _Slot:
    box: Box | None = None
    num_runs: int = 0
    last_used: float = 0.0


@dataclass(slots=True)
class _Line:
    """The slots of one depth, and who waits for them."""

    idle: deque[_Slot] = field(default_factory=deque)
    waiting: deque[tuple[threading.Event, list[_Slot]]] = field(default_factory=deque)


class PooledSandbox(Sandbox):
    """Runs programs in the boxes of a tier.

    A run that is started while another of the same sandbox answers a call (`on_call`) has slots of
    its own depth, so that a checker may wait for a candidate even where there is one slot. Runs of
    two sandboxes may call each other in one direction only: in both, they could wait for ever.
    """

    def __init__(self, tier: Tier, num_slots: int) -> None:
        self._tier = tier
        self.isolation = tier.isolation
        self.num_slots = num_slots
        self._lock = threading.Lock()
        self._lines: dict[int, _Line] = {}
        self._slots: list[_Slot] = []
        self._is_closed = False
        self._owner = os.getpid()

    def warm_up(self) -> None:
        """Start every slot's box now, not at its first run.

        Raises:
            SandboxError: A box would not start, twice.
        """
        line = self._line(0)
        for slot in list(line.idle):
            self._ready(slot, Limits())

    def run(
        self, program: Program, limits: Limits | None = None, *, on_call: OnCall | None = None
    ) -> RunResult:
        """See `Sandbox.run`.

        Raises:
            SandboxError: The sandbox failed by itself, twice.
            ConfigError: An argument of the program cannot cross.
        """
        limits = limits or Limits()
        depth = _running.get().count(self)
        if depth >= _MAX_DEPTH:
            raise SandboxError(f"runs nested deeper than {_MAX_DEPTH}")
        token = _running.set((*_running.get(), self))
        try:
            with self._slot(depth) as slot:
                return self._run(slot, program, limits, on_call)
        except CodecError as error:
            raise ConfigError(f"an argument cannot cross into a sandbox: {error}") from None
        finally:
            _running.reset(token)

    def close(self) -> None:
        """End every box; runs that wait raise."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for line in self._lines.values():
                for event, _ in line.waiting:
                    event.set()
        if self._owner == os.getpid():
            for slot in self._slots:
                self._discard(slot)
            self._tier.close()

    def _line(self, depth: int) -> _Line:
        with self._lock:
            if depth not in self._lines:
                slots = [_Slot() for _ in range(self.num_slots)]
                self._slots += slots
                self._lines[depth] = _Line(deque(slots))
            return self._lines[depth]

    @contextmanager
    def _slot(self, depth: int) -> Iterator[_Slot]:
        if self._owner != os.getpid():
            raise SandboxError("this sandbox was opened by another process: open one of your own")
        line = self._line(depth)
        slot = self._take(line)
        try:
            yield slot
        finally:
            with self._lock:
                self._give(line, slot)

    def _give(self, line: _Line, slot: _Slot) -> None:
        """Hand a slot to whoever waits longest."""
        if line.waiting:
            event, given = line.waiting.popleft()
            given.append(slot)
            event.set()
        else:
            line.idle.appendleft(slot)

    def _take(self, line: _Line) -> _Slot:
        with self._lock:
            if self._is_closed:
                raise SandboxError("this sandbox is closed")
            if line.idle:
                return line.idle.popleft()
            event, given = threading.Event(), list[_Slot]()
            line.waiting.append((event, given))
        try:
            event.wait()
        except BaseException:  # Ctrl-C: what this one waited for goes to the next
            with self._lock:
                if given:
                    self._give(line, given[0])
                else:
                    line.waiting.remove((event, given))
            raise
        if not given:
            raise SandboxError("this sandbox was closed")
        return given[0]

    def _run(
        self, slot: _Slot, program: Program, limits: Limits, on_call: OnCall | None
    ) -> RunResult:
        started = time.monotonic()
        for _ in range(2):
            box = self._ready(slot, limits)
            began = time.monotonic()  # how long boxes took until here is not the program's doing
            try:
                outcome = exchange(box, program, limits, on_call)
                meter = box.measure()
            except (BoxLost, OSError) as error:  # a cgroup that is gone is a box that is
                self._discard(slot)
                if time.monotonic() - began > limits.wall_s:
                    return self._failed(
                        started, Status.TIMEOUT_WALL, f"the box fell silent: {error}"
                    )
                continue
            except BaseException:
                self._discard(slot)
                raise
            if outcome.lost:
                self._discard(slot)
                if meter.num_oom_kills:
                    return self._failed(started, Status.MEMORY, "the memory of the box was used up")
                continue
            result = judge(program, limits, self.isolation, outcome, meter)
            slot.num_runs += 1
            slot.last_used = time.monotonic()
            is_clean = outcome.facts["is_clean"] and not result.usage.num_left
            is_normal = is_clean and result.status.ended_by_itself
            if not is_normal or slot.num_runs >= self._tier.recycle_after:
                self._discard(slot)
            return result
        return self._blame(slot, started)

    def _blame(self, slot: _Slot, started: float) -> RunResult:
        """Two boxes died: of the program, if a third runs another one."""
        try:
            outcome = exchange(self._ready(slot, Limits()), _CANARY, Limits(), None)
        except BoxLost as error:
            self._discard(slot)
            raise SandboxError(f"boxes die whatever runs in them: {error}") from None
        if outcome.lost:
            self._discard(slot)
            raise SandboxError(f"boxes fail whatever runs in them: {outcome.lost}")
        return self._failed(started, Status.SIGNAL, "two boxes died of it", "killed_box")

    def _failed(self, started: float, status: Status, detail: str, *flags: str) -> RunResult:
        usage = Usage(wall_s=time.monotonic() - started)
        return RunResult(status, self.isolation, usage=usage, detail=detail, flags=flags)

    def _ready(self, slot: _Slot, limits: Limits) -> Box:
        """The slot's box, alive and prepared for a run; a failure is retried once in a new box."""
        if slot.box is not None and time.monotonic() - slot.last_used > _PING_AFTER_S:
            try:
                ping(slot.box, _PING_TIMEOUT_S)
            except (BoxLost, FrameError):
                self._discard(slot)
        try:
            return self._prepared(slot, limits)
        except SandboxError:
            return self._prepared(slot, limits)

    def _prepared(self, slot: _Slot, limits: Limits) -> Box:
        if slot.box is None:
            slot.box = self._start()
            slot.num_runs, slot.last_used = 0, time.monotonic()
        try:
            slot.box.prepare(limits)
        except OSError as error:  # a cgroup that is gone is a box that is
            self._discard(slot)
            raise SandboxError(f"a box cannot be given its limits: {error}") from error
        except BaseException:
            self._discard(slot)
            raise
        return slot.box

    def _start(self) -> Box:
        box = self._tier.make_box()
        box.start()
        if self._is_closed:
            box.end()
            raise SandboxError("this sandbox was closed")
        return box

    def _discard(self, slot: _Slot) -> None:
        if slot.box is not None:
            box, slot.box = slot.box, None
            box.end()
