"""Tests of three kinds as plain JSON, and what comes of running one.

What a test expects stays in this process; what a candidate is given is arguments or an input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired, final

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from ...sandbox.core import Status
from .outputs import OutputRule

Json = Any
_strict = with_config(ConfigDict(extra="forbid"))


@final
@_strict
class CallTest(TypedDict):
    """Call the function, compare what it returns."""

    args: list[Json]
    expected: Json
    tolerance: NotRequired[float]


@final
@_strict
class OutputTest(TypedDict):
    """Run the code as a program, compare what it prints."""

    stdin: str
    stdout: str
    rule: NotRequired[OutputRule]
    tolerance: NotRequired[float]
    judge: NotRequired[str]
    """Code with a function `judge(stdin, stdout, expected) -> bool`, where many outputs are right;
    it decides instead of the rule."""


@final
@_strict
class CodeTest(TypedDict):
    """Tests that are code: a function `check(candidate)`, or statements that call the entry."""

    code: str
    preamble: NotRequired[str]
    """Code that comes before: what the task's own text defines."""


Test = CallTest | OutputTest | CodeTest


@dataclass(frozen=True, slots=True)
class Submission:
    """The code of an agent, and the name of the function that is tested (None: a program)."""

    code: str
    entry: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a test found, and what the agent may be told where the test was a visible one."""

    passed: bool
    status: Status
    """How the run ended."""
    given: Any = None
    """The value returned, or the text printed."""
    detail: str = ""
    """Why there is no value: the last lines of a traceback, or what is wrong with the value."""
    flags: tuple[str, ...] = ()
    """Signs of tampering: monitored, never rewarded."""


@dataclass(frozen=True, slots=True)
class Grade:
    """What a list of tests says of a submission; the tests that were not run count as failed."""

    outcomes: tuple[Outcome, ...]
    """Of the tests that were run, in their order."""
    num_tests: int

    @property
    def num_passed(self) -> int:
        """Tests that passed."""
        return sum(outcome.passed is True for outcome in self.outcomes)

    @property
    def passed(self) -> bool:
        """Did all of them? Without any test, no."""
        return 0 < self.num_tests == self.num_passed

    @property
    def flags(self) -> dict[str, int]:
        """Signs of tampering, by the number of tests that showed them."""
        found: dict[str, int] = {}
        for outcome in self.outcomes:
            for flag in outcome.flags:
                found[flag] = found.get(flag, 0) + 1
        return found
