"""What an agent reads about its code: outcomes of visible tests, and runs. Never hidden ones."""

from __future__ import annotations

from collections.abc import Sequence

from ..sandbox.core import RunResult, Status
from .grading.tests import Grade, Outcome, Test
from .problem import show_call
from .quotes import escape, quote_output, quote_value

_ENDS = {
    Status.EXIT_NONZERO: "raised",
    Status.SIGNAL: "crashed",
    Status.TIMEOUT_CPU: "took too long",
    Status.TIMEOUT_WALL: "took too long",
    Status.MEMORY: "used too much memory",
    Status.OUTPUT_LIMIT: "printed too much",
    Status.PROC_LIMIT: "started too many processes",
    Status.NO_RESULT: "ended without returning",
    Status.BAD_RESULT: "returned what is no plain value",
}
"""How a run that gave nothing to compare is told."""


def tell_grade(grade: Grade, tests: Sequence[Test], entry: str) -> str:
    """The visible tests, one by one; those that were not run are not there."""
    lines = [f"{grade.num_passed} of {grade.num_tests} examples pass"]
    for outcome, test in zip(grade.outcomes, tests, strict=False):
        if not outcome.passed:
            lines.append(_tell_outcome(outcome, test, entry))
    return "\n".join(lines)


def tell_run(result: RunResult) -> str:
    """What a program printed and how it ended."""
    lines = [quote_output(result.stdout)] if result.stdout else []
    if result.status is not Status.OK:
        lines.append(f"it {_ENDS[result.status]}{':' if result.stderr else ''}")
        lines += [quote_output(result.stderr)] if result.stderr else []
    elif result.stderr:
        lines += ["on stderr:", quote_output(result.stderr)]
    return "\n".join(lines) or "it printed nothing"


def _tell_outcome(outcome: Outcome, test: Test, entry: str) -> str:
    if "args" in test:
        asked, wanted = show_call(entry, test), quote_value(test["expected"])
        if outcome.status is Status.OK:
            return f"{asked} returned {quote_value(outcome.given)}, not {wanted}"
    elif "stdin" in test:
        asked = f"with the input\n{quote_output(test['stdin'])}\nit"
        if outcome.status is Status.OK:
            printed = quote_output(outcome.given) or "nothing"
            return f"{asked} printed\n{printed}\nnot\n{quote_output(test['stdout'])}"
    else:
        asked = f"the example {escape(test['code'].strip())}"
        if outcome.status is Status.OK:
            return f"{asked} fails"
    why = outcome.detail.strip().split("\n")[-1]
    said = f" ({escape(why)[:300]})" if why else ""
    return f"{asked} {_ENDS.get(outcome.status, 'failed')}{said}"
