"""The one form of tool calls that environments read.

One line a call, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, with any other text
around it; models that write it natively (Qwen, Hermes) need no translation. Policies translate,
environments never do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..core import ToolCall
from .faults import Fault, FaultKind

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_DEPTH = 64
"""Deeper JSON is refused: no tool needs it, and every walk over it would have to be guarded."""
# What `model_validate_json` calls; the wrapper takes a third of the time.
_validate_json = ToolCall.__pydantic_validator__.validate_json


@dataclass(slots=True)
class ParsedAction:
    """An action split in its tool calls and the text around them."""

    items: list[ToolCall | Fault]
    """The calls in order; a fault stands where a call could not be read."""
    text: str

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that could be read."""
        return [item for item in self.items if isinstance(item, ToolCall)]

    @property
    def problems(self) -> list[str]:
        """What is wrong with calls that could not be read, for the policy to see."""
        return [item.text for item in self.items if isinstance(item, Fault)]


def parse_action(action: str) -> ParsedAction:
    """Read the canonical form; never raises, whatever the text.

    Where a key occurs twice the last one counts, as JSON readers have it.
    """
    is_one_call = action.startswith(OPEN) and action.endswith(CLOSE)
    if is_one_call and action.count("tool_call>") == 2:  # nearly every action; saves 0.4 us of 8
        return ParsedAction([read_call(action[len(OPEN) : -len(CLOSE)])], "")
    items: list[ToolCall | Fault] = []
    around: list[str] = []
    at, may_search = 0, True
    while (opening := action.find(OPEN, at)) >= 0:
        around.append(action[at:opening])
        start = opening + len(OPEN)
        closing = action.find(CLOSE, start)
        end = len(action) if closing < 0 else closing
        item = read_call(action[start:end])
        if isinstance(item, Fault) and may_search:
            # An argument may hold the closing tag. Once an action: the search runs to its end.
            may_search = False
            item, end = _read_past_tags(action, start) or (item, end)
        items.append(item)
        at = end + len(CLOSE)
    around.append(action[at:])
    return ParsedAction(items, "".join(around).strip())


def read_call(body: str) -> ToolCall | Fault:
    """The call that a JSON object says, or what is wrong with it."""
    if body.count("{") + body.count("[") <= MAX_DEPTH:
        try:  # reads and checks in one go, and knows no lone surrogates
            call: ToolCall = _validate_json(body)
            return call
        except ValidationError:
            pass  # what is wrong is found out below, in words
    try:
        data = json.loads(body)
    except RecursionError:
        return Fault(FaultKind.BAD_JSON, "the tool call is no JSON: nested too deeply")
    except ValueError as error:
        return Fault(FaultKind.BAD_JSON, f"the tool call is no JSON: {_where(error)}")
    return _as_call(data, body)


def _as_call(data: Any, body: str) -> ToolCall | Fault:
    """The call that parsed JSON says, or what is wrong with it."""
    try:
        call = ToolCall.model_validate(data)
    except ValidationError:
        return Fault(FaultKind.BAD_SHAPE, 'a tool call is {"name": "...", "arguments": {...}}')
    if call.arguments and _is_deep(call.arguments):
        return Fault(FaultKind.BAD_JSON, "the tool call is no JSON we read: nested too deeply")
    if not _is_encodable(call, body):
        text = "the tool call holds half of a surrogate pair, which is no text"
        return Fault(FaultKind.BAD_JSON, text)
    return call


def render_call(name: str, /, **arguments: Any) -> str:
    """Write a call in the canonical form."""
    return wrap({"name": name, "arguments": arguments})


def wrap(call: dict[str, Any]) -> str:
    """Write the JSON of a call between its tags."""
    body = json.dumps(call, ensure_ascii=False)
    if "tool_call>" in body:  # only inside a string, where an escape says the same
        body = body.replace(OPEN, "\\u003ctool_call>").replace(CLOSE, "\\u003c/tool_call>")
    return f"{OPEN}{body}{CLOSE}"


def wrap_unreadable(text: str) -> str:
    """Hand on what was meant as a call but cannot be read, for the environment to grade."""
    return f"{OPEN}{text.replace(OPEN, '').replace(CLOSE, '')}{CLOSE}"


def readable(action: str) -> str:
    """Write an action for people: `price(item="fig")` for a call, other text as it is."""
    parsed = parse_action(action)
    if not parsed.calls:
        return action
    lines = [parsed.text] if parsed.text else []
    for call in parsed.calls:
        arguments = (f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in call.arguments.items())
        lines.append(f"{call.name}({', '.join(arguments)})")
    return "\n".join(lines)


def _read_past_tags(action: str, start: int) -> tuple[ToolCall, int] | None:
    """The call from `start` on whose strings hold tags, and where its own closing tag begins."""
    body = action[start:]
    try:
        data, length = json.JSONDecoder().raw_decode(body.lstrip())
    except (ValueError, RecursionError):
        return None
    end = start + len(body) - len(body.lstrip()) + length
    closing = action.find(CLOSE, end)
    if action[end : len(action) if closing < 0 else closing].strip():
        return None
    call = _as_call(data, body)
    return (call, len(action) if closing < 0 else closing) if isinstance(call, ToolCall) else None


def _where(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "a number has too many digits"


def _is_encodable(call: ToolCall, body: str) -> bool:
    """Can the call be written down? A lone surrogate would break whoever reads an echo of it."""
    if body.isascii() and "\\u" not in body:
        return True
    try:
        (call.name + json.dumps(call.arguments, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_deep(value: Any) -> bool:
    """Is any part of the value nested deeper than `MAX_DEPTH`? Walks level by level."""
    level = [value]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                deeper += part.values()
            elif isinstance(part, list):
                deeper += part
        if not deeper:
            return False
        level = deeper
    return True
