"""Slots: in turn, never too many, replaced when in doubt, gone at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from turnhalle.envs.errors import SandboxError
from turnhalle.envs.sandbox.core import Limits, Program, Sandbox, Status
from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox

ROOMY = Limits(cpu_s=5.0, wall_s=60.0)


def box_of(sandbox: Any, depth: int = 0) -> int | None:
    box = sandbox._slots[depth].box
    return None if box is None else box._started.pid


@pytest.fixture
def sandbox(allow_unsafe: None) -> Iterator[Sandbox]:
    with open_sandbox(SandboxOptions(tier="unsafe", slots=1, allow_unsafe=True)) as opened:
        yield opened


def test_those_who_wait_are_served_in_turn(sandbox: Sandbox) -> None:
    order: list[int] = []

    def call(name: str, arguments: list[Any]) -> None:
        while len(waiting) < 5 or not all(each.is_alive() for each in waiting):
            time.sleep(0.01)
        time.sleep(0.1)

    def wait(number: int) -> None:
        sandbox.run(Program(""), ROOMY)
        order.append(number)

    waiting: list[threading.Thread] = []
    holder = threading.Thread(
        target=lambda: sandbox.run(Program("call_host('x')"), ROOMY, on_call=call)
    )
    holder.start()
    time.sleep(0.2)
    for number in range(5):
        waiting.append(threading.Thread(target=wait, args=(number,)))
        waiting[-1].start()
        time.sleep(0.05)
    for thread in (holder, *waiting):
        thread.join()
    assert order == sorted(order)


def test_no_false_timeouts_with_twice_as_many_runs_as_slots(allow_unsafe: None) -> None:
    options = SandboxOptions(tier="unsafe", slots=4, allow_unsafe=True)
    code = "import time\nwhile time.process_time() < 0.2: pass"
    statuses: list[Status] = []
    with open_sandbox(options) as sandbox:

        def work() -> None:
            statuses.append(sandbox.run(Program(code), Limits(cpu_s=0.6, wall_s=60.0)).status)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [Status.OK] * 8


def test_a_box_is_kept_after_good_runs_and_replaced_after_bad_ones(sandbox: Sandbox) -> None:
    first = box_of(sandbox)
    for code in ("", "1 / 0", "raise SystemExit(2)"):
        sandbox.run(Program(code), ROOMY)
        assert box_of(sandbox) == first
    assert sandbox.run(Program("import os; os.abort()"), ROOMY).status is Status.SIGNAL
    assert box_of(sandbox) is None
    sandbox.run(Program(""), ROOMY)
    assert box_of(sandbox) != first


def test_a_box_is_replaced_after_its_number_of_runs(allow_unsafe: None) -> None:
    options = SandboxOptions(tier="unsafe", slots=1, allow_unsafe=True, recycle_after=2)
    with open_sandbox(options) as sandbox:
        seen = []
        for _ in range(6):
            sandbox.run(Program(""), ROOMY)
            seen.append(box_of(sandbox))
    assert [pid is None for pid in seen] == [False, True] * 3
    assert len(set(seen)) == 4


def test_a_box_that_was_killed_is_replaced_unseen(sandbox: Sandbox) -> None:
    pid = box_of(sandbox)
    assert pid is not None
    os.kill(pid, 9)
    time.sleep(0.2)
    assert sandbox.run(Program("print(1)"), ROOMY).stdout == "1\n"


def test_a_box_that_lay_idle_is_asked_whether_it_lives(
    sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnhalle.envs.sandbox.pool._PING_AFTER_S", 0.0)
    first = box_of(sandbox)
    assert sandbox.run(Program("print(1)"), ROOMY).stdout == "1\n"
    assert box_of(sandbox) == first  # it answered, so it was kept
    os.kill(first or 0, 9)
    time.sleep(0.2)
    slot = sandbox._slots[0]
    assert sandbox._ready(slot, ROOMY) is slot.box
    assert box_of(sandbox) != first


def test_a_keeper_that_was_killed_is_replaced(sandbox: Any) -> None:
    warden = sandbox._tier._keeper._warden
    os.kill(warden.pid, 9)
    time.sleep(0.2)
    assert sandbox.run(Program("print(1)"), ROOMY).stdout == "1\n"


def test_a_closed_sandbox_refuses(sandbox: Sandbox) -> None:
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        sandbox.run(Program(""))


def test_runs_nest_only_so_deep(sandbox: Sandbox) -> None:
    def again(name: str, arguments: list[Any]) -> Any:
        return sandbox.run(
            Program("def f(): return call_host('x')", "f"), ROOMY, on_call=again
        ).value

    deepest = sandbox.run(Program("def f(): return call_host('x')", "f"), ROOMY, on_call=again)
    assert deepest.value is None
    assert len(sandbox._slots) == 4  # type: ignore[attr-defined]


def test_a_fork_of_the_host_may_not_use_its_boxes(sandbox: Sandbox) -> None:
    child = os.fork()
    if child == 0:
        try:
            sandbox.run(Program(""))
        except SandboxError as error:
            os._exit(0 if "another process" in str(error) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert sandbox.run(Program("print(1)"), ROOMY).stdout == "1\n"
