"""Values of expressions in floating point, each with a bound of its error: what can refute.

Two expressions that differ at a point by more than both errors are different functions; that is
certain. That they agree proves nothing. A point says nothing where a bound gets large, a divisor
may be zero, or a branch cut is near. Principal branches, variables real, of either sign: the
meaning is that of sympy in the worker.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from .grammar import Node

Number = float | complex
Value = tuple[Number, float]
"""A number, and how far it may be from the true one."""

_POINTS = ((3, 7), (5, 11), (13, 6), (17, 19), (23, 29))
"""Values of the variables, as fractions: where two expressions differ, they differ at most points.
"""
_SCALES = ((1, 1), (-21, -21), (5, -3), (-1000, 1000), (1000, -1000))
"""Of the values, in turn, by trial: some expressions are equal for some numbers only."""
_UNIT = 2.0**-49
"""Relative error of one operation; eight times that of the arithmetic, for what libraries add."""
_SHARP = 1e-7
"""Values with a larger relative error than this do not count as agreeing."""
_MAX_EXPONENT = 1000


class Comparison(Enum):
    """What the values of two expressions say."""

    DIFFERENT = "different"
    ALIKE = "alike"
    """Both have values at some point, and they are the same as far as can be seen."""
    UNKNOWN = "unknown"


class VagueError(ArithmeticError):
    """The value at a point is not known well enough to say anything."""


def compare(left: Node, right: Node) -> Comparison:
    """Look at two expressions at a few points."""
    names = sorted(variables(left) | variables(right))
    said = Comparison.UNKNOWN
    for at in points(names):
        try:
            (a, error_a), (b, error_b) = evaluate(left, at), evaluate(right, at)
            distance, error = abs(a - b), error_a + error_b
        except (ArithmeticError, ValueError):  # vague, or beyond what a float holds
            continue
        if distance > 2 * error:
            return Comparison.DIFFERENT
        if error <= _SHARP * max(1.0, abs(a)):
            said = Comparison.ALIKE
    return said


def is_not_zero(sum_of: Sequence[Sequence[Node]]) -> bool:
    """Is a sum of products, which is not empty, certainly not zero at one of a few points?"""
    names = sorted(set().union(*(variables(factor) for term in sum_of for factor in term)))
    for at in points(names):
        try:
            if len(sum_of) == 1:  # each by itself: the product might be too small for a float
                if all(_is_factor_not_zero(factor, at) for factor in sum_of[0]):
                    return True
                continue
            total: Value = (0.0, 0.0)
            for factors in sum_of:
                product: Value = _ONE
                for factor in factors:
                    product = _multiply(product, evaluate(factor, at))
                total = _add(total, product)
            if abs(total[0]) > 2 * total[1]:
                return True
        except (ArithmeticError, ValueError):
            continue
    return False


def _is_factor_not_zero(factor: Node, at: Mapping[str, float]) -> bool:
    if factor[:2] == ("call", "exp"):
        return True
    value, error = evaluate(factor, at)
    return abs(value) > 2 * error


def points(names: Sequence[str]) -> Iterator[dict[str, float]]:
    """A few points, with the same coordinates for the same names."""
    for trial, scales in enumerate(_SCALES):
        yield {
            name: scales[number % 2] * _coordinate(trial + number)
            for number, name in enumerate(names)
        }


def evaluate(node: Node, at: Mapping[str, float]) -> Value:
    """The value of a tree where variables have the given values.

    Raises:
        VagueError: It may not exist, or nothing certain is known of it.
        OverflowError: A float cannot hold it.
    """
    kind = node[0]
    if kind == "number":
        return _rounded(float(node[1]))
    if kind == "name":
        return _CONSTANTS[node[1]] if node[1] in _CONSTANTS else _rounded(at[node[1]])
    if kind == "call":
        return _FUNCTIONS[node[1]](*(evaluate(part, at) for part in node[2:]))
    if kind == "^":
        return _power(evaluate(node[1], at), node[2], at)
    return _OPERATIONS[kind](evaluate(node[1], at), evaluate(node[2], at))


def variables(node: Node) -> set[str]:
    """The names in a tree that are no constants."""
    if node[0] == "name":
        return set() if node[1] in _CONSTANTS else {node[1]}
    return set().union(*(variables(part) for part in node[1:] if isinstance(part, tuple)))


def _coordinate(number: int) -> float:
    above, below = _POINTS[number % len(_POINTS)]
    return above / below + number // len(_POINTS)


def _rounded(number: Number, error: float = 0.0) -> Value:
    """A result, with the error of the operation itself on top of what its arguments brought."""
    size = abs(number)
    if not size + error < math.inf:
        raise VagueError
    return number, error + _UNIT * size + 1e-300


def _add(a: Value, b: Value) -> Value:
    return _rounded(a[0] + b[0], a[1] + b[1])


def _multiply(a: Value, b: Value) -> Value:
    return _rounded(a[0] * b[0], abs(a[0]) * b[1] + abs(b[0]) * a[1] + a[1] * b[1])


def _divide(a: Value, b: Value) -> Value:
    least = _least(b)
    quotient = a[0] / b[0]
    return _rounded(quotient, (a[1] + abs(quotient) * b[1]) / least)


def _least(value: Value) -> float:
    """The least size that the true value can have."""
    least = abs(value[0]) - value[1]
    if least <= value[1]:
        raise VagueError  # it may be zero
    return least


def _power(base: Value, exponent: Node, at: Mapping[str, float]) -> Value:
    if exponent[0] != "number" or exponent[1].denominator != 1:
        return _exp(_multiply(evaluate(exponent, at), _log(base)))
    count = int(exponent[1])
    if abs(count) > _MAX_EXPONENT:
        raise VagueError
    if not count or base[0] == 0:
        if base[1] or count <= 0:
            _least(base)
        return _rounded(float(not count))
    relative = (abs(count) + 1) * (base[1] / _least(base) + _UNIT)
    power = base[0] ** count
    return _rounded(power, abs(power) * math.expm1(relative))


def _exp(a: Value) -> Value:
    result = cmath.exp(a[0]) if isinstance(a[0], complex) else math.exp(a[0])
    return _rounded(result, abs(result) * math.expm1(a[1] + _UNIT * abs(a[0])))


def _log(a: Value) -> Value:
    error = a[1] / _least(a)
    if isinstance(a[0], complex):
        _off_the_cut(a[0], a[1])
        return _rounded(cmath.log(a[0]), error)
    if a[0] > 0:
        return _rounded(math.log(a[0]), error + _UNIT)
    return _rounded(complex(math.log(-a[0]), math.pi), error + _UNIT)


def _off_the_cut(number: complex, error: float) -> None:
    """Principal branches jump across the negative axis."""
    if number.real <= error and abs(number.imag) <= error:
        raise VagueError


def _sqrt(a: Value) -> Value:
    return _exp(_multiply(_HALF, _log(a)))


def _root(a: Value, index: Value) -> Value:
    return _exp(_multiply(_divide(_ONE, index), _log(a)))


def _sin(a: Value) -> Value:
    return _wave(a, cmath.sin(a[0]) if isinstance(a[0], complex) else math.sin(a[0]))


def _cos(a: Value) -> Value:
    return _wave(a, cmath.cos(a[0]) if isinstance(a[0], complex) else math.cos(a[0]))


def _wave(a: Value, result: Number) -> Value:
    """The slope of sine and cosine is at most cosh of the imaginary part."""
    slope = math.cosh(a[0].imag + a[1])
    return _rounded(result, slope * (a[1] + _UNIT * (1 + abs(a[0]))))


def _tan(a: Value) -> Value:
    return _divide(_sin(a), _cos(a))


def _abs(a: Value) -> Value:
    return _rounded(abs(a[0]), a[1])


_ONE, _HALF = (1.0, 0.0), (0.5, 0.0)
_CONSTANTS: dict[str, Value] = {
    "pi": _rounded(math.pi), "e": _rounded(math.e), "i": (1j, 0.0),
}  # fmt: skip
_OPERATIONS = {"+": _add, "*": _multiply, "/": _divide}
_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "sqrt": _sqrt, "root": _root, "sin": _sin, "cos": _cos, "tan": _tan, "log": _log, "ln": _log,
    "exp": _exp, "abs": _abs,
}  # fmt: skip
