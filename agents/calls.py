"""Calls that may block or hang, out of the way of the engine.

Blocking calls run in a bounded pool of daemon threads, coroutines in one event loop of their own.
Python cannot kill a thread: one that hangs is left behind, its answer is dropped should it ever
come, and another takes its place, up to a cap. A process that must not keep such threads has to be
restarted; they hold it up no longer than itself. A call that can be killed is killed instead, and
its thread goes on. A coroutine that never lets go of the loop holds up all others: the loop is left
behind like a thread, and what was in it ends with a time-out. What nobody waits for never takes a
place in the pool: it has a thread of its own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from turnhalle.envs.errors import EnvTimeoutError

from .loop_thread import LoopThread

_LOOP_SLACK_S = 1.0
"""The event loop ends what takes too long; one that has not, this much later, is held up."""


@dataclass(slots=True, eq=False)
class _Call:
    key: int
    work: Callable[[], Any]
    timeout_s: float
    kill: Callable[[], None] | None = None
    """Makes `work` end at once; None where nothing can."""
    late: Callable[[Any], None] | None = None
    """Told when `work` has ended that nobody waits for any more."""
    task: asyncio.Task[Any] | None = None
    """Of a coroutine that has begun."""
    is_awaited: bool = False
    started: float | None = None
    """When a thread took it; None while it waits for one."""
    is_done: bool = False
    is_dropped: bool = False
    """Nobody wants the answer; a thread that is still at it is abandoned."""

    @property
    def deadline(self) -> float | None:
        """When it is given up; None while it waits for a thread."""
        if self.started is None:
            return None
        return self.started + self.timeout_s + (_LOOP_SLACK_S if self.is_awaited else 0.0)


@dataclass(slots=True)
class Answer:
    """What came of a call."""

    key: int
    value: Any = None
    error: BaseException | None = None


@dataclass
class Calls:
    """Runs calls and collects their answers, in the order they come."""

    max_threads: int
    max_abandoned: int
    num_abandoned: int = 0
    """Threads that hang, event loops among them."""
    _waiting: queue.SimpleQueue[_Call | None] = field(default_factory=queue.SimpleQueue)
    _answers: queue.SimpleQueue[tuple[_Call, Answer]] = field(default_factory=queue.SimpleQueue)
    _open: dict[int, _Call] = field(default_factory=dict)
    _num_threads: int = 0
    _loop: LoopThread | None = None
    _tasks: dict[int, Future[None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    """Guards the state of calls."""

    @property
    def num_open(self) -> int:
        """Calls without an answer yet."""
        return len(self._open)

    @property
    def _capacity(self) -> int:
        """Most threads that may work now: those that hang beyond the cap are not replaced."""
        return self.max_threads - max(0, self.num_abandoned - self.max_abandoned)

    def call(
        self,
        key: int,
        work: Callable[[], Any],
        timeout_s: float,
        kill: Callable[[], None] | None = None,
        late: Callable[[Any], None] | None = None,
    ) -> None:
        """Run a function in a thread; its time counts from when a thread takes it.

        Args:
            key: Names the call.
            work: The function.
            timeout_s: What it may take.
            kill: Makes it end at once; called where nobody waits for it any more.
            late: Takes in its thread what it returned after that (None where it raised).
        """
        call = _Call(key, work, timeout_s, kill, late)
        self._open[key] = call
        self._waiting.put(call)
        if self._num_threads < min(self._capacity, len(self._open)):
            self._start_thread()

    def await_(
        self,
        key: int,
        work: Callable[[], Awaitable[Any]],
        timeout_s: float,
        late: Callable[[Any], None] | None = None,
    ) -> None:
        """Await a coroutine in the event loop; one that takes too long is cancelled.

        The arguments are those of `call`; `late` is told None in a thread of its own.
        """
        call = _Call(key, work, timeout_s, late=late, is_awaited=True)
        call.started = time.monotonic()
        self._open[key] = call
        if self._loop is None and self.num_abandoned > self.max_abandoned:
            self._answers.put((call, Answer(key, error=EnvTimeoutError(_NO_MORE))))
            return
        self._loop = self._loop or LoopThread()
        self._tasks[key] = self._loop.submit(self._run_async(call))

    def drop(self, key: int) -> bool:
        """Whatever comes of a call, it is not wanted any more; True where it is still at work."""
        call = self._open.pop(key, None)
        if call is None:
            return False
        with self._lock:
            call.is_dropped = True
            is_running = call.started is not None and not call.is_done
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()
        elif is_running and call.kill is not None:
            call.kill()
        elif is_running:
            self._abandon()
        return is_running

    def ready(self, wait_s: float) -> list[Answer]:
        """The answers that are there, time-outs among them; waits for the first one."""
        answers: list[Answer] = []
        deadline = time.monotonic() + wait_s
        while not answers:
            pause = self._until_next_timeout(deadline)
            with suppress(queue.Empty):
                self._take(answers, self._answers.get(timeout=pause) if pause else None)
            while not self._answers.empty():
                self._take(answers, self._answers.get())
            answers += self._expired()
            if time.monotonic() >= deadline:
                break
        return answers

    def close(self) -> None:
        """Let the threads end; those that hang stay behind as daemons."""
        for key in list(self._open):
            self.drop(key)
        for _ in range(self._num_threads):
            self._waiting.put(None)
        self._num_threads = 0
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _take(self, answers: list[Answer], item: tuple[_Call, Answer] | None) -> None:
        if item is None or item[0].is_dropped:
            return
        del self._open[item[0].key]
        self._tasks.pop(item[0].key, None)
        answers.append(item[1])

    def _until_next_timeout(self, deadline: float) -> float:
        ends = [call.deadline for call in self._open.values()]
        # Calls that wait for a thread get one when another call ends or is given up.
        first = min([deadline, *(end for end in ends if end is not None)])
        return max(0.0, first - time.monotonic())

    def _expired(self) -> list[Answer]:
        now = time.monotonic()
        late = [c for c in self._open.values() if c.deadline is not None and now >= c.deadline]
        answers = self._leave_loop() if any(call.is_awaited for call in late) else []
        late = [call for call in late if not call.is_awaited]
        for call in late:
            self.drop(call.key)
        if not self._num_threads:
            late += self._strand()
        return answers + [Answer(call.key, error=_timeout(call)) for call in late]

    def _leave_loop(self) -> list[Answer]:
        """The event loop is held up: leave it behind, and end what is in it."""
        assert self._loop is not None
        culprit = self._loop.current()
        held = [self._open[key] for key in list(self._tasks)]
        for call in held:
            self.drop(call.key)
        self._loop.close(wait_s=0.0)
        self._loop = None
        self.num_abandoned += 1
        return [
            Answer(call.key, error=EnvTimeoutError(_BUSY if call.task is culprit else _HELD_UP))
            for call in held
        ]

    def _strand(self) -> list[_Call]:
        """No thread is left and none may be started: nobody will ever run what waits for one."""
        stranded = [call for call in self._open.values() if call.started is None]
        for call in stranded:
            self.drop(call.key)
        return stranded

    def _abandon(self) -> None:
        self._num_threads -= 1
        self.num_abandoned += 1
        if self._num_threads < min(self._capacity, len(self._open)):
            self._start_thread()

    def _start_thread(self) -> None:
        self._num_threads += 1
        threading.Thread(target=self._work, daemon=True, name="env-worker").start()

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None:
            if not self._begin(call):
                continue
            answer = Answer(call.key)
            try:
                answer.value = call.work()
            except BaseException as error:  # whatever it is, who asked is told
                answer.error = error
            if not self._end(call) and call.kill is None:
                if call.late is not None:
                    call.late(answer.value)
                return  # abandoned: another thread has taken this one's place
            self._answers.put((call, answer))

    def _begin(self, call: _Call) -> bool:
        with self._lock:
            if not call.is_dropped:
                call.started = time.monotonic()
            return not call.is_dropped

    def _end(self, call: _Call) -> bool:
        with self._lock:
            call.is_done = not call.is_dropped
            return call.is_done

    async def _run_async(self, call: _Call) -> None:
        inner = asyncio.ensure_future(_awaited(call))
        try:
            done, _ = await asyncio.wait({inner}, timeout=call.timeout_s)
        finally:
            if (late := call.late) is not None and not inner.done():
                inner.add_done_callback(lambda _: spawn(lambda: late(None)))
            inner.cancel()  # one that takes this badly is not waited for
        answer = inner.result() if done else Answer(call.key, error=_timeout(call))
        self._answers.put((call, answer))


async def _awaited(call: _Call) -> Answer:
    """What comes of a coroutine; whatever it raises is an answer."""
    call.task = asyncio.current_task()
    answer = Answer(call.key)
    try:
        answer.value = await call.work()
    except BaseException as error:
        if call.task is not None and call.task.cancelling():
            raise  # it was not the environment that cancelled it
        answer.error = error
    return answer


def spawn(work: Callable[[], None]) -> None:
    """Run a function in a daemon thread of its own; nobody waits for it."""
    threading.Thread(target=work, daemon=True, name="env-close").start()


_NO_MORE = "every thread for environments hangs, and no more may be started"
_BUSY = "the environment's step_async keeps the event loop busy: it never awaits"
_HELD_UP = "the environment was awaited beside another that keeps the event loop busy"


def _timeout(call: _Call) -> EnvTimeoutError:
    if call.started is None:
        return EnvTimeoutError(_NO_MORE)
    return EnvTimeoutError(f"the environment did not answer within {call.timeout_s:g} s")
