"""Formats of tool calls that policies speak; each is translated to the canonical one and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core import ToolSpec
from ..errors import unknown_name
from . import compact, native
from .canonical import parse_action as parse_action
from .canonical import readable as readable
from .canonical import render_call as render_call

Translate = Callable[[str, Sequence[ToolSpec]], str]


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write tool calls."""

    read: Translate
    """From what a model wrote to the canonical form; never raises, whatever the text."""
    write: Translate
    describe: Callable[[Sequence[ToolSpec]], str]


def to_canonical(text: str, format: str, tools: Sequence[ToolSpec]) -> str:
    """Translate what a model wrote into the canonical form.

    Raises:
        UnknownNameError: No such format.
    """
    return _format(format).read(text, tools)


def from_canonical(action: str, format: str, tools: Sequence[ToolSpec]) -> str:
    """Translate a canonical action into what a model of this format would write."""
    return _format(format).write(action, tools)


def describe(tools: Sequence[ToolSpec], format: str) -> str:
    """Tell a model what the tools are and how to call them, for templates that do not."""
    return _format(format).describe(tools)


def _format(name: str) -> Format:
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


_FORMATS = {
    "hermes": Format(_same, _same, _describe_hermes),
    "llama3": Format(native.read_llama, native.write_llama, native.describe_llama),
    "mistral": Format(native.read_mistral, native.write_mistral, native.describe_mistral),
    "compact": Format(compact.to_canonical, compact.from_canonical, compact.describe),
}
FORMATS = tuple(_FORMATS)
"""Names of the formats that policies may speak."""
