"""Is what a program printed what was wanted? By a rule that the task declares."""

from __future__ import annotations

import math
import re
from typing import Literal

OutputRule = Literal["exact", "tokens", "numbers"]
"""`exact`: every character but one newline at the end. `tokens`: the words between white space.
`numbers`: the same, and words that are numbers may be off by the declared tolerance."""

_SPACE = re.compile(r"[ \t\r\n\f\v]+")
_NUMBER = re.compile(r"[+-]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:[eE][+-]?\d{1,3})?", re.A)


def is_same_output(
    given: str, wanted: str, rule: OutputRule = "tokens", tolerance: float = 0.0
) -> bool:
    """Compare what a program printed with what was wanted.

    White space is ASCII's alone: another line separator or a zero-width character is a character.
    """
    if rule == "exact":
        return given.removesuffix("\n") == wanted.removesuffix("\n")
    left, right = _tokens(given), _tokens(wanted)
    if rule == "tokens":
        return left == right
    return len(left) == len(right) and all(
        a == b or _is_close(a, b, tolerance) for a, b in zip(left, right, strict=True)
    )


def _tokens(text: str) -> list[str]:
    return [token for token in _SPACE.split(text) if token]


def _is_close(given: str, wanted: str, tolerance: float) -> bool:
    if not (_NUMBER.fullmatch(given) and _NUMBER.fullmatch(wanted)):
        return False
    left, right = float(given), float(wanted)
    is_finite = math.isfinite(left) and math.isfinite(right)
    return is_finite and math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)
