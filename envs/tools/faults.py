"""What can be wrong with a tool call, by kind, and how it is told to the policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

_MAX_SHOWN = 40
_MAX_TEXT = 300


class FaultKind(StrEnum):
    """Every way a call can go wrong; what malformed calls are counted by."""

    BAD_JSON = "bad_json"
    BAD_SHAPE = "bad_shape"
    """JSON, but no object of a name and arguments."""
    UNKNOWN_TOOL = "unknown_tool"
    MISSING_ARGUMENT = "missing_argument"
    EXTRA_ARGUMENT = "extra_argument"
    WRONG_TYPE = "wrong_type"
    BAD_VALUE = "bad_value"
    """Of the right type, but out of range or not among the allowed values."""
    NO_CALL = "no_call"
    """Text alone, where only calls count."""
    TOO_MANY_CALLS = "too_many_calls"
    """More calls in one turn than are answered."""
    OVER_BUDGET = "over_budget"
    """The episode's calls are used up."""
    REFUSED = "refused"
    """A good call that the world does not allow: the tool raised `ToolError`."""
    CRASHED = "crashed"
    """The tool raised something else."""


MALFORMED = frozenset(FaultKind) - {FaultKind.REFUSED, FaultKind.CRASHED}
"""The kinds that are the policy's own doing, whatever the state of the world."""

_KINDS = {
    "missing": FaultKind.MISSING_ARGUMENT,
    "extra_forbidden": FaultKind.EXTRA_ARGUMENT,
    "literal_error": FaultKind.BAD_VALUE,
    "enum": FaultKind.BAD_VALUE,
    "value_error": FaultKind.BAD_VALUE,
    "assertion_error": FaultKind.BAD_VALUE,
    "finite_number": FaultKind.BAD_VALUE,
    "multiple_of": FaultKind.BAD_VALUE,
}
_BOUNDS = ("greater_than", "less_than", "too_short", "too_long", "pattern_mismatch")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that went wrong with one call."""

    kind: FaultKind
    text: str
    """What the policy is told: which argument, what was given, what is allowed."""
    tool: str = ""
    cause: Exception | None = None


def unknown_tool(name: str, tools: Iterable[str]) -> Fault:
    """A call of a tool that does not exist."""
    known = list(tools)
    close = get_close_matches(name[:_MAX_SHOWN], known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ";"
    text = f"no tool {show(name)}{hint} tools: {', '.join(known)}"
    return Fault(FaultKind.UNKNOWN_TOOL, text, name)


def bad_arguments(tool: str, error: ValidationError, names: Iterable[str]) -> Fault:
    """Arguments that do not fit the tool's signature; tells the first thing that is wrong."""
    # The context may hold an exception, which is of no use to a policy.
    first = error.errors(include_url=False, include_context=False)[0]
    problem = first["type"]
    kind = _KINDS.get(problem, FaultKind.WRONG_TYPE)
    if any(bound in problem for bound in _BOUNDS):
        kind = FaultKind.BAD_VALUE
    where = clip(".".join(str(part) for part in first["loc"])) or "arguments"
    if kind is FaultKind.MISSING_ARGUMENT:
        text = f"{tool}: {where} is missing; arguments: {', '.join(names)}"
    elif kind is FaultKind.EXTRA_ARGUMENT:
        text = f"{tool}: no argument {where}; arguments: {', '.join(names) or 'none'}"
    else:
        said = first["msg"][:1].lower() + first["msg"][1:]
        text = f"{tool}: {where}: {said}, got {show(first['input'])}"
    return Fault(kind, text, tool, error)


def failed(tool: str, kind: FaultKind, error: Exception) -> Fault:
    """A tool that raised."""
    if kind is FaultKind.REFUSED:
        return Fault(kind, clip(str(error), _MAX_TEXT), tool, error)
    text = clip(f"{tool} failed: {type(error).__name__}: {error}", _MAX_TEXT)
    return Fault(kind, text, tool, error)


def show(value: Any) -> str:
    """A value as a policy may see it: short, and ASCII where it could break a terminal."""
    try:
        text = repr(value[:_MAX_SHOWN] if isinstance(value, str) else value)
    except (RecursionError, ValueError):  # too deep, or an integer too long to print
        return f"a {type(value).__name__}"
    return clip(text)


def clip(text: str, size: int = _MAX_SHOWN) -> str:
    """Cut long text, and escape what no encoding can carry."""
    cut = text if len(text) <= size else text[:size] + "..."
    return cut.encode("utf-8", "backslashreplace").decode()
