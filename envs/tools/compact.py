"""Compact calls (`price pear`), for models too small to write JSON: a tool's name, its arguments.

Arguments are words in the order of the schema. A word with a space or a quote in it is written as a
JSON string; lists and objects as a JSON string of their JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ..core import ToolSpec, parse_int
from .canonical import parse_action, render_call

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_PLAIN = re.compile(r'[^\s"]+')
_FLOAT = re.compile(
    r"[+-]?\d{1,100}\.\d{1,100}(?:e[+-]?\d{1,3})?|[+-]?\d{1,100}e[+-]?\d{1,3}", re.A
)
_CONSTANTS = {"true": True, "false": False}


def to_canonical(text: str, tools: Sequence[ToolSpec]) -> str:
    """Read each line that begins with a tool's name as a call; other lines stay as they are."""
    by_name = {tool.name: tool for tool in tools}
    lines = []
    for line in text.split("\n"):  # not splitlines: an argument may hold other line ends
        words = _WORD.findall(line)
        tool = by_name.get(words[0]) if words else None
        lines.append(render_call(tool.name, **_arguments(tool, words[1:])) if tool else line)
    return "\n".join(lines)


def from_canonical(action: str, tools: Sequence[ToolSpec]) -> str:
    """Write each call on a line of its own, after the text."""
    parsed = parse_action(action)
    by_name = {tool.name: tool for tool in tools}
    lines = []
    for call in parsed.calls:
        known = by_name.get(call.name)
        values = _in_order(known, call.arguments) if known else list(call.arguments.values())
        lines.append(" ".join([call.name, *map(_word, values)]))
    return "\n".join(filter(None, [parsed.text, *lines]))


def describe(tools: Sequence[ToolSpec]) -> str:
    """One line a tool."""
    lines = []
    for tool in tools:
        names = " ".join(tool.parameters.get("properties", {}))
        lines.append(f"{tool.name} {names}: {tool.description}")
    return "To call a tool, write its name and arguments on one line:\n" + "\n".join(lines)


def _arguments(tool: ToolSpec, words: list[str]) -> dict[str, Any]:
    """Bind words to parameters by position; leftovers are passed on for the tool to refuse."""
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    arguments: dict[str, Any] = {}
    for (name, schema), word in zip(properties.items(), words, strict=False):
        arguments[name] = _value(word, schema)
    if extra := words[len(properties) :]:
        arguments["extra"] = " ".join(extra)
    return arguments


def _value(word: str, schema: dict[str, Any]) -> Any:
    """What a word says for a parameter of this schema; the text itself where it does not fit."""
    kind = schema.get("type")
    if kind in ("integer", "number"):
        number = parse_int(word)
        if number is not None:
            return number
        if kind == "number" and _FLOAT.fullmatch(word):
            return float(word)
    if kind == "boolean":
        return _CONSTANTS.get(word, word)
    text = _unquote(word)
    return _from_json(text) if kind in ("array", "object") else text


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unquote(word: str) -> str:
    if word[:1] != '"':
        return word
    try:
        return str(json.loads(word))
    except ValueError:
        return word


def _in_order(tool: ToolSpec, arguments: dict[str, Any]) -> list[Any]:
    """Values by position; what was left out before a given one is written as its default."""
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    given = [number for number, name in enumerate(properties) if name in arguments]
    leading = list(properties.items())[: given[-1] + 1 if given else 0]
    return [
        arguments[name] if name in arguments else schema["default"]
        for name, schema in leading
        if name in arguments or "default" in schema
    ]


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(text, ensure_ascii=False) if isinstance(value, dict | list) else text
