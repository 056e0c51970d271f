"""The process of `worker.py`; a script of its own, which imports sympy and nothing of ours.

It reads one question a line, two trees as JSON, and answers `equal` or `different`. Trees become
sympy nodes one by one; no text is ever parsed by sympy.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

import sympy
from sympy.core.random import seed

_MEMORY_BYTES = 2 * 2**30
_DIGITS = 30
_POINTS = ((3, 7), (5, 11), (13, 6), (17, 19), (23, 29))
"""Values of the variables, as fractions: where two expressions differ, they differ at most points.
"""
_TRIALS = 3
_FUNCTIONS = {
    "sqrt": sympy.sqrt, "root": sympy.root, "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan,
    "log": sympy.log, "ln": sympy.log, "exp": sympy.exp, "abs": sympy.Abs,
}  # fmt: skip
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I}


def main(cpu_s: float) -> None:
    """Answer questions until the input ends; each has `cpu_s` seconds of processor time."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        # Nobody handles the signal, so the kernel ends a question that is too hard.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            left, right = (build(tree) for tree in json.loads(line))
            answer = "equal" if are_equal(left, right) else "different"
        except Exception:  # whatever sympy cannot do is no proof; a traceback has no reader here
            answer = "different"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(answer, flush=True)


def build(tree: list[Any]) -> Any:
    """The sympy expression of a tree of our grammar; variables are real."""
    kind, *parts = tree
    if kind == "number":
        above, _, below = parts[0].partition("/")
        return sympy.Rational(int(above), int(below or "1"))
    if kind == "name":
        return _CONSTANTS.get(parts[0]) or sympy.Symbol(parts[0], real=True)
    if kind == "call":
        return _FUNCTIONS[parts[0]](*(build(part) for part in parts[1:]))
    left, right = build(parts[0]), build(parts[1])
    if kind == "+":
        return left + right
    if kind == "*":
        return left * right
    if kind == "/":
        return left / _nonzero(right)
    return (_nonzero(left) if right.is_negative else left) ** right


def _nonzero(divisor: Any) -> Any:
    """The divisor; sympy would cancel it even where it is zero everywhere."""
    if all(_vanishes(divisor, point) for point in range(_TRIALS)):
        raise ZeroDivisionError
    return divisor


def are_equal(left: Any, right: Any) -> bool:
    """Is the difference nothing, provably? Numbers refute first: that is quick."""
    seed(0)
    difference = left - right
    if difference.has(sympy.nan, sympy.zoo, sympy.oo):
        return False
    if difference == 0:
        return True
    if not all(_vanishes(difference, point) for point in range(_TRIALS)):
        return False
    return any(form == 0 for form in _forms(difference))


def _forms(difference: Any) -> Iterator[Any]:
    """Ever dearer forms of the difference; each is 0 only where it vanishes."""
    yield sympy.expand(difference)
    yield sympy.expand_log(difference, factor=True)
    numerator, _ = sympy.fraction(sympy.together(difference.rewrite(sympy.exp)))
    yield sympy.expand(numerator)  # sines are sums of exponentials
    yield sympy.simplify(sympy.sqrtdenest(difference))


def _vanishes(difference: Any, point: int) -> bool:
    names = sorted(difference.free_symbols, key=str)
    values = {
        name: sympy.Rational(*_POINTS[(point + number) % len(_POINTS)]) + number // len(_POINTS)
        for number, name in enumerate(names)
    }
    value = difference.evalf(_DIGITS, subs=values, maxn=200)
    return not value.is_number or bool(abs(value) < 10 ** (10 - _DIGITS))


if __name__ == "__main__":
    main(float(sys.argv[1]))
