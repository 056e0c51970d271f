"""Tests that are code, in a box of their own; the candidate is a proxy in it.

`candidate(...)` in the tests is a call of the host, which runs the submission in a fresh box with
these arguments and passes the value on. So the tests and the submission never share a process: all
that crosses is arguments one way and values the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...sandbox.core import Limits, OnCall, Program, RunResult, Sandbox, Status
from .boxes import Boxes
from .tests import CodeTest, Submission

MAX_CALLS = 1_000
_WALL_FACTOR = 12
"""The wall clock of a check goes on while the candidate runs, once for every call."""
_CHECKED = """

def candidate(*args, **kwargs):
    return call_host("candidate", list(args), kwargs)

{entry} = candidate

{code}

def _checked():
    check = globals().get("check")
    if callable(check):
        check(candidate)
    return True
"""
_WITH_KEYWORDS = """

def _with_keywords(args, kwargs):
    return {entry}(*args, **kwargs)
"""
_LETS_THROUGH = ("AssertionError", "RuntimeError")
"""How a check says no: by itself, or because a call of the candidate raised."""

Run = Callable[[Sandbox, Program, Limits, OnCall | None], RunResult]


@dataclass(frozen=True, slots=True)
class Checked:
    """What tests that are code said."""

    passed: bool
    status: Status
    detail: str
    flags: tuple[str, ...]
    has_crashed: bool
    """Did the tests fail otherwise than by saying no?"""


class _Candidate:
    """The host's end of the proxy: each call is a run of the submission."""

    def __init__(self, boxes: Boxes, limits: Limits, submission: Submission, run: Run) -> None:
        self._boxes, self._limits, self._run = boxes, limits, run
        self._submission = submission
        self.ended: RunResult | None = None
        """The run that ended all of it: no value, and no exception either."""
        self.broken: BaseException | None = None
        """An error of ours, which must not look like one of the candidate's."""
        self.flags: dict[str, None] = {}
        self.num_calls = 0

    def __call__(self, name: str, args: list[Any]) -> Any:
        if self.ended is not None or self.broken is not None:
            raise RuntimeError("the candidate failed before")
        self.num_calls += 1
        if self.num_calls > MAX_CALLS:
            raise RuntimeError(f"more than {MAX_CALLS} calls of the candidate")
        try:
            result = self._run(self._boxes.candidates, self._program(*args), self._limits, None)
        except Exception as error:
            self.broken = error
            raise
        self.flags |= dict.fromkeys(result.flags)
        if result.status is Status.OK:
            return result.value
        if result.status is not Status.EXIT_NONZERO:
            self.ended = result
        lines = (result.stderr.strip() or result.detail or str(result.status)).splitlines()
        raise RuntimeError(lines[-1][:300])

    def _program(self, args: list[Any], keywords: dict[str, Any]) -> Program:
        code, entry = self._submission.code, str(self._submission.entry)
        if not keywords:
            return Program(code, entry, tuple(args))
        return Program(
            code + _WITH_KEYWORDS.format(entry=entry), "_with_keywords", (args, keywords)
        )


def run_checks(
    boxes: Boxes, limits: Limits, submission: Submission, test: CodeTest, run: Run
) -> Checked:
    """Run tests that are code on a submission; they pass if they end without an exception.

    Raises:
        SandboxError: A sandbox failed by itself.
    """
    body = _CHECKED.replace("{entry}", str(submission.entry)).replace("{code}", test["code"])
    candidate = _Candidate(boxes, limits, submission, run)
    program = Program(test.get("preamble", "") + body, "_checked")
    wider = replace(limits, wall_s=_WALL_FACTOR * limits.wall_s)
    result = run(boxes.checkers, program, wider, candidate)
    if candidate.broken is not None:
        raise candidate.broken
    flags = tuple(candidate.flags)
    if candidate.ended is not None:
        ended = candidate.ended
        return Checked(False, ended.status, ended.detail or ended.stderr[-300:], flags, False)
    passed = result.status is Status.OK and result.value is True and candidate.num_calls > 0
    says_no = result.status is Status.EXIT_NONZERO and _last(result).startswith(_LETS_THROUGH)
    detail = "" if passed else result.stderr.strip() or result.detail
    return Checked(passed, result.status, detail, flags, not (passed or says_no))


def _last(result: RunResult) -> str:
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else ""
