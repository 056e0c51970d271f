"""Exact arithmetic on trees of the grammar: what the calculator does."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from .grammar import GrammarError, Node, parse

MAX_EXPONENT = 1000
MAX_BITS = 10_000
"""Numbers may grow to about 3,000 digits; larger ones are refused before they are computed."""
Number = int | Fraction
_WHOLE = r"(?:\d{1,18}|\(-?\d{1,18}\))"
_FLAT = re.compile(rf"-?{_WHOLE}(?:[-+*/]{_WHOLE}){{1,20}}", re.ASCII)
_STEP = re.compile(r"([-+*/]?)\(?(-?\d+)\)?", re.ASCII)
_PAIR = re.compile(r"(gcd|lcm|mod)\((\d{1,18}),(\d{1,18})\)", re.ASCII)


def calculate(text: str) -> Number:
    """The exact value of an expression of numbers.

    Raises:
        GrammarError: No expression, no rational value, or too large.
    """
    if _FLAT.fullmatch(text):  # most are; a tree would take five times as long
        return _calculate_flat(_STEP.findall(text))
    if pair := _PAIR.fullmatch(text):
        return _FUNCTIONS[pair[1]](int(pair[2]), int(pair[3]))
    return evaluate(parse(text, is_for_calculator=True))


def _calculate_flat(steps: list[tuple[str, str]]) -> Number:
    """The value of whole numbers with signs between them, products before sums."""
    total: Number = 0
    product: Number = 0
    for sign, digits in steps:
        number = int(digits)
        if sign == "*":
            product = product * number
        elif sign == "/":
            product = _divide(product, number)
        else:
            total, product = total + product, -number if sign == "-" else number
    return total + product


def evaluate(node: Node) -> Number:
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
    if kind == "^":
        return power(left, right)
    return _bounded(_OPERATIONS[kind](left, right))


def power(base: Number, exponent: Number) -> Fraction:
    """`base ** exponent` for an integer exponent, refused before it is too large to compute.

    Raises:
        GrammarError: The exponent is no integer or too large, or the power does not exist.
    """
    count = exponent.numerator
    if exponent.denominator != 1 or abs(count) > MAX_EXPONENT:
        raise GrammarError(f"exponents are integers of at most {MAX_EXPONENT}")
    if not base and count <= 0:
        raise GrammarError("0 to the power of 0 or less")
    if _bits(base) * abs(count) > MAX_BITS:
        raise GrammarError("the power is too large")
    return Fraction(base) ** count


def square_root(number: Number) -> Fraction:
    """The exact square root.

    Raises:
        GrammarError: It is not rational.
    """
    if number >= 0:
        above, below = math.isqrt(number.numerator), math.isqrt(number.denominator)
        if above * above == number.numerator and below * below == number.denominator:
            return Fraction(above, below)
    raise GrammarError(f"the square root of {_short(number)} is not rational")


def _divide(left: Number, right: Number) -> Fraction:
    if not right:
        raise GrammarError("division by zero")
    return Fraction(left, right)


_OPERATIONS: dict[str, Callable[[Number, Number], Number]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divide,
}  # fmt: skip


def _bits(number: Number) -> int:
    return max(number.numerator.bit_length(), number.denominator.bit_length())


def _bounded(number: Number) -> Number:
    if _bits(number) > MAX_BITS:
        raise GrammarError("the number is too large")
    return number


def _short(number: Number) -> str:
    return str(number) if _bits(number) < 100 else "a large number"


def _integer(number: Number, function: str) -> int:
    if number.denominator != 1:
        raise GrammarError(f"{function} takes integers")
    return number.numerator


def _gcd(a: Number, b: Number) -> Number:
    return math.gcd(_integer(a, "gcd"), _integer(b, "gcd"))


def _lcm(a: Number, b: Number) -> Number:
    return _bounded(math.lcm(_integer(a, "lcm"), _integer(b, "lcm")))


def _mod(a: Number, b: Number) -> Number:
    if not b:
        raise GrammarError("division by zero")
    return a % b


def _floor(a: Number) -> Number:
    return math.floor(a)


_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs, "floor": _floor, "gcd": _gcd, "lcm": _lcm, "mod": _mod, "sqrt": square_root,
}  # fmt: skip
