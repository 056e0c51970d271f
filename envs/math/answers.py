r"""Reading answers: one strict rule for where the answer is, exact arithmetic for what it is.

The answer is what the last marker (`#### x`, `\boxed{x}` or `<answer>x</answer>`) holds; without
a marker the whole action must be a number. Never "contains": a gold inside a longer text or number
does not count. Numbers are compared as rationals, so 0.50 is 1/2 and nothing is ever rounded.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 1000
"""Longer numbers are no answers; the cap keeps `Fraction` from being an attack."""

_MARKERS = re.compile(
    r"####[ \t]*(?P<hashes>[^\n]*)"
    r"|\\boxed\{(?P<boxed>[^{}]*)\}"
    r"|<answer>(?P<tag>.*?)</answer>",
    re.DOTALL,
)
_NUMBER = re.compile(
    r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/(?P<denominator>\d+))?", re.ASCII
)


def extract(action: str) -> str:
    """The text of the answer in an action; empty where a marker holds nothing."""
    matches = list(_MARKERS.finditer(action))
    if not matches:
        return action.strip()
    last = matches[-1]
    return str(last.group(last.lastgroup or 0)).strip()


def parse_number(text: str) -> Fraction | None:
    """The rational that `text` is: 12, -3, 0.25, 3/4, 1,319; None where it is anything else."""
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if match is None:
        return None
    if match["denominator"] is not None and ("." in text or not match["denominator"].strip("0")):
        return None
    return Fraction(text.replace(",", ""))


def is_right(action: str, gold: str) -> bool:
    """Does the action's answer equal the gold answer, exactly?"""
    given = parse_number(extract(action))
    return given is not None and given == parse_number(gold)
