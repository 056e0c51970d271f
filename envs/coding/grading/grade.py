"""Run tests on a submission and judge, here, what came out of the boxes.

One fresh process a test; the list of tests is walked here, so a candidate can neither shorten it
nor see what is expected. What a candidate does wrong fails; what a sandbox does wrong is an error,
and the episode is masked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import cast

from ...errors import SandboxError
from ...sandbox.core import Limits, OnCall, Program, RunResult, Sandbox, Status
from .boxes import Boxes
from .checks import run_checks
from .outputs import is_same_output
from .tests import CallTest, CodeTest, Grade, Outcome, OutputTest, Submission, Test
from .values import is_same

_log = logging.getLogger("turnhalle")
_MAX_DETAIL = 2_000
CHECKER_CRASH = "checker_crash"
"""Flag of an outcome: a judge or check failed by itself. The submission fails, and we are told."""


def grade(
    boxes: Boxes, limits: Limits, submission: Submission, tests: Sequence[Test], *, whole: bool
) -> Grade:
    """Run tests in their order.

    Args:
        boxes: Where candidates and checkers run.
        limits: Of each run.
        submission: What is tested.
        tests: The host's own list.
        whole: Go on after the first failure, to know the fraction that passes.

    Raises:
        SandboxError: A sandbox failed by itself; the submission was not judged.
    """
    outcomes: list[Outcome] = []
    for test in tests:
        outcomes.append(_remembered(boxes, limits, submission, test))
        if not outcomes[-1].passed and not whole:
            break
    return Grade(tuple(outcomes), len(tests))


def run_program(
    sandbox: Sandbox, program: Program, limits: Limits, on_call: OnCall | None = None
) -> RunResult:
    """One run.

    Raises:
        SandboxError: The sandbox failed by itself.
    """
    result = sandbox.run(program, limits, on_call=on_call)
    if result.status is Status.SANDBOX_ERROR:
        raise SandboxError(f"the {result.isolation.tier} sandbox failed: {result.detail}")
    return result


def _remembered(boxes: Boxes, limits: Limits, submission: Submission, test: Test) -> Outcome:
    key = (submission.code, submission.entry or "", json.dumps(test, sort_keys=True), repr(limits))
    found = boxes.memory.get(key)
    if found is None:
        found = _runner(test)(boxes, limits, submission, test)
        boxes.memory.put(key, found)
    return found


def _runner(test: Test) -> Callable[[Boxes, Limits, Submission, Test], Outcome]:
    if "args" in test:
        return _run_call
    return _run_output if "stdin" in test else _run_code


def _run_call(boxes: Boxes, limits: Limits, submission: Submission, test: Test) -> Outcome:
    test = cast(CallTest, test)
    program = Program(submission.code, submission.entry, tuple(test["args"]))
    result = run_program(boxes.candidates, program, limits)
    is_right = result.status is Status.OK and is_same(
        result.value, test["expected"], test.get("tolerance", 0.0)
    )
    return Outcome(is_right, result.status, result.value, _why(result), result.flags)


def _run_output(boxes: Boxes, limits: Limits, submission: Submission, test: Test) -> Outcome:
    test = cast(OutputTest, test)
    program = Program(submission.code, stdin=test["stdin"])
    result = run_program(boxes.candidates, program, limits)
    flags = result.flags
    is_right = result.status is Status.OK
    if is_right and "judge" in test:
        verdict = _ask_judge(boxes, limits, test, result.stdout)
        is_right = verdict is True
        flags += () if isinstance(verdict, bool) else (CHECKER_CRASH,)
    elif is_right:
        rule, tolerance = test.get("rule", "tokens"), test.get("tolerance", 0.0)
        is_right = is_same_output(result.stdout, test["stdout"], rule, tolerance)
    return Outcome(is_right, result.status, result.stdout, _why(result), flags)


def _ask_judge(boxes: Boxes, limits: Limits, test: OutputTest, printed: str) -> bool | None:
    """The verdict of a special judge, from a box of its own; None where it fails."""
    args = (test["stdin"], printed, test["stdout"])
    result = run_program(boxes.checkers, Program(test["judge"], "judge", args), limits)
    if result.status is Status.OK and type(result.value) is bool:
        return result.value
    _log.warning("a special judge failed (%s): %s", result.status, _why(result)[-300:])
    return None


def _run_code(boxes: Boxes, limits: Limits, submission: Submission, test: Test) -> Outcome:
    checked = run_checks(boxes, limits, submission, cast(CodeTest, test), run_program)
    if checked.has_crashed:
        _log.warning("tests that are code failed by themselves: %s", checked.detail[-300:])
    flags = checked.flags + ((CHECKER_CRASH,) if checked.has_crashed else ())
    return Outcome(checked.passed, checked.status, None, checked.detail, flags)


def _why(result: RunResult) -> str:
    """What a candidate may be told of a run that gave no value."""
    if result.status is Status.OK:
        return ""
    return (result.detail or result.stderr.strip())[-_MAX_DETAIL:]
