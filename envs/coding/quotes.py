"""What a candidate printed, as the agent is shown it: labelled, escaped, never too long.

Every line of it stands behind a bar, so that no output can pass for words of the environment, and
what could end a chat message (`<|im_end|>`, `</s>`) is broken up.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 2_000
MAX_LINES = 40

_ODD = re.compile(r"[^\n\t\x20-\x7e\xa1-\u1fff\u2030-\u205e\u2070-\ud7ff\uf900-\ufdff]")
_MARKS = "s|think|tool_call|tool_response|bos|eos|pad|unk|start_of_turn|end_of_turn|eos_token"
_MARKUP = re.compile(rf"<(?=\||/?(?:{_MARKS})>)|\[(?=/?(?:INST|SYS|TOOL_[A-Z]+|AVAILABLE_TOOLS)\])")


def quote_output(text: str) -> str:
    """The lines of a text, each behind `| `; head and tail where it is long."""
    lines = escape(_shorten(text)).split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) > MAX_LINES:
        half = MAX_LINES // 2
        cut = len(lines) - 2 * half
        lines = [*lines[:half], f"({cut} lines left out)", *lines[-half:]]
    return "\n".join(f"| {line}" for line in lines)


def quote_value(value: object, size: int = 200) -> str:
    """A value on one line."""
    text = escape(repr(value)).replace("\n", "\\n")
    return text if len(text) <= size else text[: size // 2] + " ... " + text[-size // 2 :]


def escape(text: str) -> str:
    """Control and invisible characters as Python writes them, markup of chats broken up."""
    text = _ODD.sub(lambda match: ascii(match[0])[1:-1], text)
    return _MARKUP.sub(lambda match: match[0] + "\\", text)


def _shorten(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]}\n({len(text) - 2 * half} characters left out)\n{text[-half:]}"
