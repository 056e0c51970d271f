r"""Reading answers: one strict rule for where the answer is, and what a number looks like.

The answer is what the last marker (`#### x`, `\boxed{x}` or `<answer>x</answer>`) holds; without
a marker it is the whole action. Never "contains": a gold inside a longer text or number does not
count. Time is linear in the length of the action, whatever it holds.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_LENGTH = 1000
"""Characters; longer texts are no answers, which keeps numbers from being an attack."""

_HASHES, _BOXED, _OPEN, _CLOSE = "####", "\\boxed{", "<answer>", "</answer>"
_MARKER = re.compile(r"####|\\boxed\{|<answer>")
_BRACE = re.compile(r"[{}]")
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+)|/(?P<below>\d+))?",
    re.ASCII,
)


def extract(action: str) -> str:
    r"""The text of the answer in an action; empty where a marker holds nothing.

    Markers are read from left to right and do not nest: `#### \boxed{1}` holds a box that no
    number is. A marker that is never closed is no marker.
    """
    if _BOXED not in action and _OPEN not in action:
        at = action.rfind(_HASHES)
        if at < 0:
            return action.strip()
        first = action.find(_HASHES, action.rfind("\n", 0, at) + 1)  # of that line
        return action[first + len(_HASHES) :].partition("\n")[0].strip()
    return _extract_any(action).strip()


def _extract_any(action: str) -> str:
    """The last marker of any kind; slower."""
    found, position = action, 0
    last_tag = action.rfind(_CLOSE)
    closing = _closing_braces(action) if _BOXED in action else {}
    while match := _MARKER.search(action, position):
        begin = match.end()
        if match[0] == _HASHES:
            end = after = action.find("\n", begin) % (len(action) + 1)  # -1: to the end
        elif match[0] == _BOXED:
            end = closing.get(begin - 1, -1)
            after = end + 1
        else:
            end = action.find(_CLOSE, begin) if begin <= last_tag else -1
            after = end + len(_CLOSE)
        if end < 0:
            position = begin
        else:
            found, position = action[begin:end], after
    return found


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace that is closed closes."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif opened:
            closing[opened.pop()] = match.start()
    return closing


def parse_number(text: str) -> Fraction | None:
    """The rational that `text` is: 12, -3, 0.25, 3/4, 1,319; None where it is anything else."""
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        return None
    sign, whole, decimals, below = match.groups()
    if "," in whole:
        whole = whole.replace(",", "")
    if decimals is not None and decimals.strip("0"):
        number = Fraction(int(whole + decimals), 10 ** len(decimals))
    elif below is None:
        number = Fraction(int(whole))
    elif not below.strip("0"):
        return None
    else:
        number = Fraction(int(whole), int(below))
    return -number if sign == "-" else number
