"""From what came back to a status. Every doubt is decided against the candidate."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from .box import Meter
from .core import Isolation, Json, Limits, Program, RunResult, Status, Usage
from .guest import codec
from .protocol import Outcome

_LIMITS = {
    "cpu": Status.TIMEOUT_CPU,
    "wall": Status.TIMEOUT_WALL,
    "output": Status.OUTPUT_LIMIT,
    "value": Status.BAD_RESULT,
    "processes": Status.PROC_LIMIT,
}
_HINTS = {"memory": Status.MEMORY, "processes": Status.PROC_LIMIT}


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: Status
    detail: str = ""
    value: Json = None


def judge(
    program: Program, limits: Limits, isolation: Isolation, outcome: Outcome, meter: Meter
) -> RunResult:
    """Decide the status of a run that came to an end, and gather its record."""
    facts = outcome.facts
    flags = set(outcome.flags)
    verdict = _decide(program, limits, outcome, meter)
    if facts["num_left"]:
        flags.add("left_children")
    if program.entry is not None and not outcome.has_called and _has_left(outcome):
        flags.add("exit_at_import")
    if any(word.get("is_custom") is True for word in outcome.said):
        flags.add("custom_type")
    return RunResult(
        status=verdict.status,
        isolation=isolation,
        value=verdict.value,
        stdout=outcome.stdout.decode("utf-8", "replace"),
        stderr=outcome.stderr.decode("utf-8", "replace"),
        exit_code=facts["exit_code"],
        signal=facts["signal"],
        usage=_usage(facts, meter),
        flags=tuple(sorted(flags)),
        detail=verdict.detail,
    )


def _usage(facts: dict[str, Any], meter: Meter) -> Usage:
    return Usage(
        wall_s=facts["wall_s"],
        cpu_s=facts["cpu_s"] if meter.cpu_s is None else meter.cpu_s,
        max_memory_bytes=meter.max_memory_bytes or facts["max_memory_bytes"],
        num_left=facts["num_left"],
    )


def _has_left(outcome: Outcome) -> bool:
    """Whether the candidate left by itself, without an exception."""
    if outcome.facts["limit"] or outcome.facts["signal"]:
        return False
    return not any(word.get("error", "exit") != "exit" for word in outcome.said)


def _decide(program: Program, limits: Limits, outcome: Outcome, meter: Meter) -> _Verdict:
    facts = outcome.facts
    if facts["limit"] is not None:
        detail = f"a value larger than {limits.value_bytes} bytes"
        status = _LIMITS[facts["limit"]]
        return _Verdict(status, detail if status is Status.BAD_RESULT else "")
    if meter.num_oom_kills:
        return _Verdict(Status.MEMORY, f"killed at {limits.memory_bytes} bytes")
    if facts["signal"] == signal.SIGXCPU or (
        facts["signal"] == signal.SIGKILL and facts["cpu_s"] >= limits.cpu_s
    ):
        return _Verdict(Status.TIMEOUT_CPU)
    has_failed = facts["signal"] is not None or facts["exit_code"] != 0
    hint = next((_HINTS[e] for w in outcome.said if (e := str(w.get("error"))) in _HINTS), None)
    if has_failed and meter.num_refused_processes:
        return _Verdict(Status.PROC_LIMIT)
    if has_failed and hint is not None:
        return _Verdict(hint)
    if facts["signal"] is not None:
        return _Verdict(Status.SIGNAL, _name(facts["signal"]))
    if facts["exit_code"] != 0:
        return _Verdict(Status.EXIT_NONZERO)
    return _Verdict(Status.OK) if program.entry is None else _value(outcome)


def _value(outcome: Outcome) -> _Verdict:
    """The status of a function that ended well: exactly one value, whole and of exact types."""
    if outcome.forged:
        return _Verdict(Status.BAD_RESULT, outcome.forged)
    if len(outcome.said) > 1:
        return _Verdict(Status.BAD_RESULT, "more than one last word")
    if not outcome.said or "error" in outcome.said[0]:
        return _Verdict(Status.NO_RESULT, "it ended without returning")
    (word,) = outcome.said
    if "bad" in word:
        return _Verdict(Status.BAD_RESULT, str(word["bad"])[:300])
    try:
        return _Verdict(Status.OK, value=codec.decode(word["value"]))
    except codec.CodecError as error:
        return _Verdict(Status.BAD_RESULT, str(error))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
