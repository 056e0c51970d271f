"""A template's own way to write tool calls, found by letting it write some.

Readers of formats that are known are tried on what it wrote; where none reads it back, calls that
are a name followed by JSON are read by the word before the name, those that are a name followed by
keys and values by what stands around these. Others are no format of ours: the tools are then told
in words, and calls and results are plain text to the template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from turnhalle.envs.core import ToolCall, ToolSpec
from turnhalle.envs.errors import ModelError
from turnhalle.envs.tools.canonical import parse_action, wrap, wrap_unreadable
from turnhalle.envs.tools.formats import to_canonical

from .pairs import ODD, Pairs, find_pairs
from .template import Said, Template
from .words import before_words

_READERS = ("hermes", "llama3", "mistral")
_SCHEMA = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "fruit": {"type": "string"},
        "more": {"type": "string"},
    },
}
PROBE_TOOLS = tuple(
    ToolSpec(name=name, description="A probe.", parameters=_SCHEMA)
    for name in ("probe_first", "probe_second")
)
_PROBES = (
    ToolCall(name="probe_first", arguments={"count": 3, "fruit": "seven", "more": "eight"}),
    ToolCall(name="probe_second", arguments={"count": -1, "fruit": 'a "b" {c}', "more": "d, e"}),
    ToolCall(name="probe_first"),
    ToolCall(name="probe_first", arguments={"fruit": ODD}),
)
"""In the order of their keys: some templates sort them."""
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
    pairs: Pairs | None = None
    """How calls are read that are no JSON."""
    takes_many: bool = False
    """Does it write several calls of a turn, and so that they are read?"""

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
        if self.pairs is not None:
            return self.pairs.read(text, tools)
        names = "|".join(re.escape(tool.name) for tool in tools)
        lines, at, before = [], 0, None
        for found in re.finditer(rf"{re.escape(self.lead)}\s*({names})(?![\w.-])[^{{]*", text):
            if found.start() < at:
                continue
            if before is None:
                before = before_words(text[: found.start()], self.intro.split())
            line, at = _call_at(text, found.end(), found[1])
            lines.append(line)
        return text if before is None else "\n".join(filter(None, [before, *lines]))

    def _arguments(self, call: ToolCall) -> object:
        return json.dumps(call.arguments, ensure_ascii=False) if self.is_text else call.arguments


def call_id(number: int) -> str:
    """Nine letters and digits, the length that some templates insist on."""
    return f"call{number:05d}"


def find_calls(template: Template, ends: Sequence[str], *, is_implied: bool) -> CallStyle | None:
    """The template's own way to write calls; None where it has none that can be read back.

    Args:
        template: Whose.
        ends: Texts of the tokens that end a turn, the surest first.
        is_implied: Is there no such token, a turn ends where another role begins?
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
            asked = [*([call] for call in _PROBES), [_PROBES[0]] * 2]
            written = [_written(template, style, calls, told) for calls in asked]
            if not is_implied:
                written = [text and _without_end(template, text, ends) for text in written]
            *texts, two = written
            if None not in texts and (found := _readable(style, [t or "" for t in texts], two)):
                return found
    return None


def _written(
    template: Template, style: CallStyle, calls: Sequence[ToolCall], told: str
) -> str | None:
    """What the template writes for calls, from where the model would begin to."""
    user = {"role": "user", "content": "?"}
    try:
        text = template.render([user, style.said("", calls)], PROBE_TOOLS, generate=False)
    except ModelError:
        return None
    start = next((i for i, (a, b) in enumerate(zip(text, told, strict=False)) if a != b), None)
    return text[min(len(text), len(told)) if start is None else start :]


def _without_end(template: Template, text: str, ends: Sequence[str]) -> str:
    """A written call without the token that ends the turn: the last one, if no other is known."""
    last = template.specials(text)[-1:]
    end = next((end for end in (*ends, *last) if end in text), None)
    return text if end is None else text[: text.rindex(end)]


def _readable(style: CallStyle, texts: Sequence[str], two: str | None) -> CallStyle | None:
    """The style with a reader that reads the probes back, if there is one."""
    styles = [CallStyle(style.is_text, style.empty, format) for format in _READERS]
    name = _PROBES[0].name
    if name in texts[0] and (words := texts[0][: texts[0].index(name)].split()):
        intro = texts[0][: texts[0].index(name)].rstrip().removesuffix(words[-1]).rstrip()
        styles.append(CallStyle(style.is_text, style.empty, None, words[-1], intro))
    if pairs := find_pairs(texts[0], _PROBES[0], texts[2], texts[3], two):
        styles.append(CallStyle(style.is_text, style.empty, pairs=pairs))
    for candidate in styles:
        parsed = [parse_action(candidate.read(text, PROBE_TOOLS)) for text in texts]
        if all(p.items == [call] for p, call in zip(parsed, _PROBES, strict=True)):
            many = [] if two is None else parse_action(candidate.read(two, PROBE_TOOLS)).items
            return replace(candidate, takes_many=many == [_PROBES[0]] * 2)
    return None


def _call_at(text: str, at: int, name: str) -> tuple[str, int]:
    """The call whose arguments begin at a place, in canonical form, and where it ends."""
    try:
        arguments, end = _decoder.raw_decode(text, at)
        return wrap({"name": name, "arguments": arguments}), end
    except (ValueError, RecursionError):
        return wrap_unreadable(text[at:]), len(text)
