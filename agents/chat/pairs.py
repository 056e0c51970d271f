"""Tool calls that are no JSON: a name, then keys and values between tags or brackets.

`<function=price><parameter=item>fig</parameter></function>`, `price(item="fig")` and the like. What
stands around the parts is taken from calls that a template wrote; a call that does not look like
them is left as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnhalle.envs.core import ToolCall, ToolSpec
from turnhalle.envs.tools.canonical import wrap

from ..core import num_common
from .words import before_words

ODD = 'it\'s "so"\n\\n'
"""A text that some templates write with backslashes."""
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Pairs:
    """What stands around the name, the keys and the values of a call."""

    intro: str
    """Before the name."""
    opening: str
    """Between the name and the first key."""
    middle: str
    """Between a key and a value that is no text."""
    quote: str
    """What a text begins with in addition."""
    unquote: str
    """What a text ends with in addition."""
    separator: str
    """Between a value and the next key."""
    closing: str
    """After the last value."""
    bare: str
    """After the name of a call without arguments."""
    joint: str = ""
    """Between two calls, where several stand between one beginning and one end."""
    outro: str = ""
    """The end of such a list, after the last call."""
    escapes: bool = False
    """Do texts have backslashes before what would end them?"""

    def read(self, text: str, tools: Sequence[ToolSpec]) -> str:
        """Translate what a model wrote into the canonical form of calls."""
        by_name = {tool.name: tool for tool in tools}
        names = "|".join(map(re.escape, by_name))
        lead, follows = re.escape(self.intro.split()[-1]), ""
        if self.joint:
            joint, outro = _flexible(self.joint), _flexible(self.outro)
            follows = rf"(?={joint}(?:{names}){_flexible(self.opening)}|{outro}|\s*\Z)"
            lead = f"(?:{lead}|{joint})"
        body = f"{_flexible(self.opening)}(?P<body>.*?){_flexible(self.closing)}"
        call = rf"{lead}\s*(?P<name>{names})(?:{body}|{_flexible(self.bare)}){follows}"
        whole = re.compile(call, re.S)
        lines, before = [], None
        for found in whole.finditer(text):
            if before is None:
                before = before_words(text[: found.start()], self.intro.split()[:-1])
            arguments = self._arguments(found["body"], by_name[found["name"]])
            lines.append(wrap({"name": found["name"], "arguments": arguments}))
        return text if before is None else "\n".join(filter(None, [before, *lines]))

    def _arguments(self, body: str | None, tool: ToolSpec) -> dict[str, Any]:
        if body is None:
            return {}
        properties: dict[str, Any] = tool.parameters.get("properties", {})
        arguments: dict[str, Any] = {}
        for pair in self._pair().finditer(body):
            key, text, value = pair["key"], pair["text"], pair["value"]
            is_text = properties.get(key, {}).get("type", "string") == "string"
            if text is None:
                text = value if is_text and not self.quote else None
            if text is not None and self.escapes:
                text = _unescaped(text)
            arguments[key] = _json(value) if text is None else text
        return arguments

    def _pair(self) -> re.Pattern[str]:
        end = rf"(?:{_flexible(self.separator)}|\s*\Z)"
        letter = r"(?:\\.|[^\\])" if self.escapes else "."
        quoted = f"{re.escape(self.quote)}(?P<text>{letter}*?){re.escape(self.unquote)}{end}"
        text = quoted if self.quote else "(?P<text>(?!))"
        return re.compile(
            rf"(?P<key>\S+?){_flexible(self.middle)}(?:{text}|(?P<value>.*?){end})", re.S
        )


def find_pairs(text: str, call: ToolCall, bare: str, odd: str, two: str | None) -> Pairs | None:
    """Take a written call apart.

    Args:
        text: As a template wrote it.
        call: A number and two texts, in the order of their keys.
        bare: The same tool called without arguments.
        odd: The same tool called with `ODD` as its second argument alone.
        two: The call twice in one turn; None where the template takes one a turn.
    """
    parts: list[str] = []
    rest = text
    keys_and_values = [str(part) for pair in call.arguments.items() for part in pair]
    for marker in (call.name, *keys_and_values):
        before, found, rest = rest.partition(marker)
        if not found:
            return None
        parts.append(before)
    intro, opening, middle, separator, quoted, parting, _ = parts
    after = bare.partition(call.name)[2]
    if not intro.split() or not (opening.strip() and middle.strip() and separator.strip()):
        return None
    if not quoted.startswith(middle) or not parting.endswith(separator):
        return None
    unquote = parting.removesuffix(separator)
    if not rest.startswith(unquote):
        return None
    quote, closing = quoted.removeprefix(middle), rest.removeprefix(unquote)
    pairs = Pairs(intro, opening, middle, quote, unquote, separator, closing, after)
    if ODD not in odd:
        before = f"{intro}{call.name}{opening}{keys_and_values[2]}{middle}{quote}"
        if _unescaped(odd.removeprefix(before).removesuffix(unquote + closing)) != ODD:
            return None
        pairs = replace(pairs, escapes=True)
    if two is None:
        return pairs
    return _listed(pairs, two.removeprefix(text.removesuffix(closing)).partition(call.name)[0])


def _listed(pairs: Pairs, between: str) -> Pairs:
    """The same where several calls share their beginning and end, with this between two of them."""
    closing = between[: num_common(between, pairs.closing)]
    outro, joint = pairs.closing.removeprefix(closing), between.removeprefix(closing)
    if not (closing.strip() and joint.strip() and outro.strip() and pairs.bare.endswith(outro)):
        return pairs
    bare = pairs.bare.removesuffix(outro)
    return replace(pairs, closing=closing, bare=bare, joint=joint, outro=outro)


def _flexible(text: str) -> str:
    """A pattern of a text that does not mind white space around and between its words."""
    words = [re.escape(word) for word in text.split()]
    return r"\s*" + r"\s*".join(words) + r"\s*" if words else ""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unescaped(text: str) -> str:
    """A text as a string in quotes stands for it."""

    def letter(found: re.Match[str]) -> str:
        code: str | None = found["code"]
        return chr(int(code, 16)) if code else _ESCAPES.get(found["letter"], found["letter"])

    return re.sub(r"\\(?:u(?P<code>[0-9a-fA-F]{4})|(?P<letter>.))", letter, text, flags=re.S)
