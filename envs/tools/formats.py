"""Formats of tool calls, and the one canonical form that environments read.

Canonical is one line a call, `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, with any
other text around it; models that write it natively (Qwen, Hermes) need no translation. `compact`
(`price pear`) is for models too small to write JSON. Policies translate, environments never do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..core import ToolCall, ToolSpec, parse_int
from ..errors import unknown_name

_TAG = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_PLAIN = re.compile(r'[^\s"]+')


@dataclass(frozen=True, slots=True)
class ParsedAction:
    """An action split in its tool calls and the text around them."""

    calls: list[ToolCall]
    text: str
    problems: list[str]
    """What is wrong with calls that could not be read, for the policy to see."""


def parse_action(action: str) -> ParsedAction:
    """Read the canonical form; never raises, whatever the text."""
    calls: list[ToolCall] = []
    problems: list[str] = []
    for body in _TAG.findall(action):
        try:
            data = json.loads(body)
            calls.append(ToolCall.model_validate(data))
        except ValidationError:
            problems.append('a tool call is {"name": "...", "arguments": {...}}')
        except (ValueError, RecursionError):
            problems.append("the tool call is no JSON")
    return ParsedAction(calls, _TAG.sub("", action).strip(), problems)


def render_call(name: str, /, **arguments: Any) -> str:
    """Write a call in the canonical form."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>{body}</tool_call>"


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


def to_canonical(text: str, format: str, tools: Sequence[ToolSpec]) -> str:
    """Translate what a model wrote into the canonical form.

    Raises:
        UnknownNameError: No such format.
    """
    return _format(format)[0](text, tools)


def from_canonical(action: str, format: str, tools: Sequence[ToolSpec]) -> str:
    """Translate a canonical action into what a model of this format would write."""
    return _format(format)[1](action, tools)


def describe(tools: Sequence[ToolSpec], format: str) -> str:
    """Tell a model what the tools are and how to call them, for templates that do not."""
    return _format(format)[2](tools)


def _format(name: str) -> tuple[Callable[..., str], Callable[..., str], Callable[..., str]]:
    if name not in _FORMATS:
        raise unknown_name("tool format", name, _FORMATS)
    return _FORMATS[name]


def _same(text: str, tools: Sequence[ToolSpec]) -> str:
    return text


def _describe_hermes(tools: Sequence[ToolSpec]) -> str:
    lines = [json.dumps(tool.as_openai(), ensure_ascii=False) for tool in tools]
    return (
        "You may call these tools:\n" + "\n".join(lines) + "\nTo call one, write "
        '<tool_call>{"name": "...", "arguments": {...}}</tool_call> and wait for the result.'
    )


def _compact_to_canonical(text: str, tools: Sequence[ToolSpec]) -> str:
    by_name = {tool.name: tool for tool in tools}
    lines = []
    for line in text.split("\n"):  # not splitlines: an argument may hold other line ends
        words = _WORD.findall(line)
        tool = by_name.get(words[0]) if words else None
        lines.append(render_call(tool.name, **_arguments(tool, words[1:])) if tool else line)
    return "\n".join(lines)


def _arguments(tool: ToolSpec, words: list[str]) -> dict[str, Any]:
    """Bind words to parameters by position; leftovers are passed on for the tool to refuse."""
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    arguments: dict[str, Any] = {}
    for (name, schema), word in zip(properties.items(), words, strict=False):
        number = parse_int(word) if schema.get("type") in ("integer", "number") else None
        arguments[name] = _unquote(word) if number is None else number
    if extra := words[len(properties) :]:
        arguments["extra"] = " ".join(extra)
    return arguments


def _unquote(word: str) -> str:
    if word[:1] != '"':
        return word
    try:
        return str(json.loads(word))
    except ValueError:
        return word


def _canonical_to_compact(action: str, tools: Sequence[ToolSpec]) -> str:
    parsed = parse_action(action)
    by_name = {tool.name: tool for tool in tools}
    lines = []
    for call in parsed.calls:
        order = list(by_name[call.name].parameters.get("properties", {}))
        values = [call.arguments[name] for name in order if name in call.arguments]
        plain = [
            str(v) if _PLAIN.fullmatch(str(v)) else json.dumps(v, ensure_ascii=False)
            for v in values
        ]
        lines.append(" ".join([call.name, *plain]))
    return "\n".join(filter(None, [parsed.text, *lines]))


def _describe_compact(tools: Sequence[ToolSpec]) -> str:
    lines = []
    for tool in tools:
        names = " ".join(tool.parameters.get("properties", {}))
        lines.append(f"{tool.name} {names}: {tool.description}")
    return "To call a tool, write its name and arguments on one line:\n" + "\n".join(lines)


_FORMATS: dict[str, tuple[Callable[..., str], Callable[..., str], Callable[..., str]]] = {
    "hermes": (_same, _same, _describe_hermes),
    "compact": (_compact_to_canonical, _canonical_to_compact, _describe_compact),
}
FORMATS = tuple(_FORMATS)
"""Names of the formats that policies may speak."""
