"""A template's own way to write tool calls, found by letting it write some.

Readers of formats that are known are tried on what it wrote; where none reads it back, calls that
are a name followed by JSON are read by the word before the name. Others are no format of ours: the
tools are then told in words, and calls and results are plain text to the template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.envs.core import ToolCall, ToolSpec
from turnhalle.envs.errors import ModelError
from turnhalle.envs.tools.canonical import parse_action, wrap, wrap_unreadable
from turnhalle.envs.tools.formats import to_canonical

from .template import Said, Template

_READERS = ("hermes", "llama3", "mistral")
_SCHEMA = {
    "type": "object",
    "properties": {"key": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["key", "count"],
}
PROBE_TOOLS = tuple(
    ToolSpec(name=name, description="A probe.", parameters=_SCHEMA)
    for name in ("probe_first", "probe_second")
)
_PROBES = (
    ToolCall(name="probe_first", arguments={"key": "seven", "count": 3}),
    ToolCall(name="probe_second", arguments={"key": 'a "b" {c}', "count": -1}),
)
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class CallStyle:
    """How a template takes tool calls, and how to read what it makes of them."""

    is_text: bool = False
    """Are arguments given as JSON text, not as an object?"""
    empty: str | None = ""
    """The content of a message that only calls."""
    format: str | None = None
    """The format of `envs/tools/formats.py` that reads them; None reads by `lead`."""
    lead: str = ""
    """The word that stands before the name of a tool."""
    intro: str = ""
    """What is written before that word."""

    def said(self, content: str, calls: Sequence[ToolCall], first: int = 0) -> Said:
        """The message of a turn that calls tools; its calls are numbered from `first`."""
        listed = [
            {
                "id": call_id(first + number),
                "type": "function",
                "function": {"name": call.name, "arguments": self._arguments(call)},
            }
            for number, call in enumerate(calls)
        ]
        return {"role": "assistant", "content": content or self.empty, "tool_calls": listed}

    def read(self, text: str, tools: Sequence[ToolSpec]) -> str:
        """Translate what a model wrote into the canonical form of calls."""
        if self.format is not None:
            return to_canonical(text, self.format, tools)
        names = "|".join(re.escape(tool.name) for tool in tools)
        lines, at, before = [], 0, None
        for found in re.finditer(rf"{re.escape(self.lead)}\s*({names})(?![\w.-])[^{{]*", text):
            if found.start() < at:
                continue
            if before is None:
                before = text[: found.start()].rstrip().removesuffix(self.intro).strip()
            line, at = _call_at(text, found.end(), found[1])
            lines.append(line)
        return text if before is None else "\n".join(filter(None, [before, *lines]))

    def _arguments(self, call: ToolCall) -> object:
        return json.dumps(call.arguments, ensure_ascii=False) if self.is_text else call.arguments


def call_id(number: int) -> str:
    """Nine letters and digits, the length that some templates insist on."""
    return f"call{number:05d}"


def find_calls(template: Template, ends: Sequence[str]) -> CallStyle | None:
    """The template's own way to write calls; None where it has none that can be read back.

    Args:
        template: Whose.
        ends: Texts of the tokens that end a turn, the surest first.
    """
    user = {"role": "user", "content": "?"}
    try:
        told = template.render([user], PROBE_TOOLS)
    except ModelError:
        return None
    if not all(tool.name in told for tool in PROBE_TOOLS):
        return None
    for is_text in (False, True):
        for empty in ("", None):
            style = CallStyle(is_text, empty)
            written = [_written(template, style, call, told) for call in _PROBES]
            if None in written:
                continue
            bare = [_without_end(text or "", ends) for text in written]
            if found := _readable(style, bare):
                return found
    return None


def _written(template: Template, style: CallStyle, call: ToolCall, told: str) -> str | None:
    """What the template writes for a call, from where the model would begin to."""
    user = {"role": "user", "content": "?"}
    try:
        text = template.render([user, style.said("", [call])], PROBE_TOOLS, generate=False)
    except ModelError:
        return None
    start = next((i for i, (a, b) in enumerate(zip(text, told, strict=False)) if a != b), None)
    return text[min(len(text), len(told)) if start is None else start :]


def _without_end(text: str, ends: Sequence[str]) -> str:
    for end in ends:
        if end in text:
            return text[: text.rindex(end)]
    return text


def _readable(style: CallStyle, texts: Sequence[str]) -> CallStyle | None:
    """The style with a reader that reads the probes back, if there is one."""
    styles = [CallStyle(style.is_text, style.empty, format) for format in _READERS]
    name = _PROBES[0].name
    if name in texts[0] and (words := texts[0][: texts[0].index(name)].split()):
        intro = texts[0][: texts[0].index(name)].rstrip().removesuffix(words[-1]).rstrip()
        styles.append(CallStyle(style.is_text, style.empty, None, words[-1], intro))
    for candidate in styles:
        parsed = [parse_action(candidate.read(text, PROBE_TOOLS)) for text in texts]
        if all(p.items == [call] for p, call in zip(parsed, _PROBES, strict=True)):
            return candidate
    return None


def _call_at(text: str, at: int, name: str) -> tuple[str, int]:
    """The call whose arguments begin at a place, in canonical form, and where it ends."""
    try:
        arguments, end = _decoder.raw_decode(text, at)
        return wrap({"name": name, "arguments": arguments}), end
    except (ValueError, RecursionError):
        return wrap_unreadable(text[at:]), len(text)
