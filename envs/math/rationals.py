"""Exact arithmetic on trees of the grammar: what the calculator does."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from .grammar import GrammarError, Node, parse

MAX_EXPONENT = 1000
MAX_BITS = 10_000
"""Numbers may grow to about 3,000 digits; larger ones are refused before they are computed."""


def calculate(text: str) -> Fraction:
    """The exact value of an expression of numbers.

    Raises:
        GrammarError: No expression, no rational value, or too large.
    """
    return evaluate(parse(text, is_for_calculator=True))


def evaluate(node: Node) -> Fraction:
    """The exact value of a tree of numbers.

    Raises:
        GrammarError: It has variables, no rational value, or is too large.
    """
    kind = node[0]
    if kind == "number":
        return node[1]  # type: ignore[no-any-return]
    if kind == "name":
        raise GrammarError(f"{node[1]!r} is no number")
    if kind == "call":
        if node[1] not in _FUNCTIONS:
            raise GrammarError(f"{node[1]} has no exact value; known: {', '.join(_FUNCTIONS)}")
        return _FUNCTIONS[node[1]](*(evaluate(argument) for argument in node[2:]))
    left, right = evaluate(node[1]), evaluate(node[2])
    if kind == "+":
        return _bounded(left + right)
    if kind == "*":
        return _bounded(left * right)
    if kind == "/":
        if not right:
            raise GrammarError("division by zero")
        return _bounded(left / right)
    return power(left, right)


def power(base: Fraction, exponent: Fraction) -> Fraction:
    """`base ** exponent` for an integer exponent, refused before it is too large to compute.

    Raises:
        GrammarError: The exponent is no integer or too large, or the power does not exist.
    """
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise GrammarError(f"exponents are integers of at most {MAX_EXPONENT}")
    if not base and exponent <= 0:
        raise GrammarError("0 to the power of 0 or less")
    if _bits(base) * abs(exponent) > MAX_BITS:
        raise GrammarError("the power is too large")
    return base**exponent.numerator


def square_root(number: Fraction) -> Fraction:
    """The exact square root.

    Raises:
        GrammarError: It is not rational.
    """
    if number >= 0:
        above, below = math.isqrt(number.numerator), math.isqrt(number.denominator)
        if above * above == number.numerator and below * below == number.denominator:
            return Fraction(above, below)
    raise GrammarError(f"the square root of {_short(number)} is not rational")


def _bits(number: Fraction) -> int:
    return max(number.numerator.bit_length(), number.denominator.bit_length())


def _bounded(number: Fraction) -> Fraction:
    if _bits(number) > MAX_BITS:
        raise GrammarError("the number is too large")
    return number


def _short(number: Fraction) -> str:
    return str(number) if _bits(number) < 100 else "a large number"


def _integer(number: Fraction, function: str) -> int:
    if number.denominator != 1:
        raise GrammarError(f"{function} takes integers")
    return number.numerator


def _gcd(a: Fraction, b: Fraction) -> Fraction:
    return Fraction(math.gcd(_integer(a, "gcd"), _integer(b, "gcd")))


def _lcm(a: Fraction, b: Fraction) -> Fraction:
    return _bounded(Fraction(math.lcm(_integer(a, "lcm"), _integer(b, "lcm"))))


def _mod(a: Fraction, b: Fraction) -> Fraction:
    if not b:
        raise GrammarError("division by zero")
    return a % b


def _floor(a: Fraction) -> Fraction:
    return Fraction(math.floor(a))


_FUNCTIONS: dict[str, Callable[..., Fraction]] = {
    "abs": abs, "floor": _floor, "gcd": _gcd, "lcm": _lcm, "mod": _mod, "sqrt": square_root,
}  # fmt: skip
