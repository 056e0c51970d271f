"""Exact equality of real algebraic numbers: nested roots, and cosines of parts of a turn.

Such a number is U / L, where U and L are algebraic integers. If no conjugate of U is larger than u
and none of L than l, and all lie in a field of degree D, a value that is not zero is at least
1 / (u^(D-1) l), because the norm of U is a whole number (Burnikel, Fleischer, Mehlhorn, Schirra
2000, "A strong and easily computable separation bound for arithmetic expressions involving
radicals", Algorithmica 27). So an interval that is narrower than that and holds zero is a proof.
Intervals are of integers, in units of a power of 1/2; their ends are always rounded outwards.
"""

from __future__ import annotations

import math
from fractions import Fraction

from .fixed_point import pi, whole_root
from .grammar import GrammarError, Node
from .normal import MAX_RADICAND, NotAlgebraicError, factors
from .rationals import evaluate

MAX_DEGREE = 1000
MAX_DIGITS = 4000
"""Binary digits of a proof; more would take longer than an answer is worth."""
_MAX_INDEX = 12
_MAX_ROOT_DIGITS = 40_000
_SPARE, _FEW_DIGITS = 64, 400
_PI: Node = ("name", "pi")
Interval = tuple[int, int]
Size = tuple[float, float]
"""Binary digits of u and of l."""


def are_equal(left: Node, right: Node) -> bool:
    """Are two expressions the same real number?

    Raises:
        NotAlgebraicError: One has variables, is not real, or a proof would take too long.
        GrammarError: One divides by zero.
    """
    difference: Node = ("+", left, ("*", ("number", Fraction(-1)), right))
    measure = _Measure()
    measure.size(difference)
    digits = measure.digits()
    if digits > _FEW_DIGITS and _is_seen_to_differ(difference):
        return False
    if digits > MAX_DIGITS:
        raise NotAlgebraicError("a proof takes too many digits")
    return _Evaluation(digits, is_proof=True).value(difference) == (0, 0)


def sign(node: Node) -> int:
    """1, 0 or -1, as a real number is.

    Raises:
        NotAlgebraicError: It has variables, is not real, or a proof would take too long.
        GrammarError: It divides by zero.
    """
    measure = _Measure()
    measure.size(node)
    digits = measure.digits()
    if digits > MAX_DIGITS:
        raise NotAlgebraicError("a proof takes too many digits")
    low, high = _Evaluation(digits, is_proof=True).value(node)
    return (low > 0) - (high < 0)


def _is_seen_to_differ(difference: Node) -> bool:
    """Do a few digits tell the value from zero?"""
    try:
        return _Evaluation(_FEW_DIGITS, is_proof=False).value(difference) != (0, 0)
    except NotAlgebraicError:
        return False


class _Measure:
    """How near to zero the parts of an expression can be without being zero."""

    def __init__(self) -> None:
        self.sizes: list[Size] = []
        self.roots: set[tuple[object, int]] = set()
        """What generates the field, and the root that is taken of it."""
        self.turns = 1
        """The roots of unity whose real parts generate it, too."""

    def digits(self) -> int:
        """So many digits after the point tell zero from everything else."""
        if self.turns > MAX_DEGREE:
            raise NotAlgebraicError("an angle of too fine a part of a turn")
        of_unity = sum(math.gcd(self.turns, n) == 1 for n in range(self.turns))  # Euler's phi
        degree = max(1, of_unity // 2) * math.prod(index for _, index in self.roots)
        if degree > MAX_DEGREE:
            return MAX_DIGITS + 1
        digits: float = _SPARE + max((degree - 1) * u + v for u, v in self.sizes)
        return math.ceil(digits)

    def size(self, node: Node) -> Size:
        """The bounds of a node; those of its parts are kept, too."""
        found = self._size(node)
        self.sizes.append(found)
        return found

    def _size(self, node: Node) -> Size:
        kind = node[0]
        if kind == "number":
            return node[1].numerator.bit_length(), node[1].denominator.bit_length()
        if kind == "name":
            raise NotAlgebraicError(f"{node[1]} is no algebraic number")
        if kind == "call":
            return self._of_call(node)
        u, v = self.size(node[1])
        if kind == "^":
            exponent = _exponent(node[2])
            u, v = self._root(node[1], exponent.denominator)
            times = abs(exponent.numerator)
            return (u * times, v * times) if exponent > 0 else (v * times, u * times)
        other_u, other_v = self.size(node[2])
        if kind == "*":
            return u + other_u, v + other_v
        if kind == "/":
            return u + other_v, v + other_u
        return max(u + other_v, other_u + v) + 1, v + other_v

    def _of_call(self, node: Node) -> Size:
        name, argument = node[1], node[2]
        if name in ("sqrt", "root"):
            return self._root(argument, _index(node))
        if name == "abs":
            return self.size(argument)
        if name not in ("sin", "cos", "tan"):
            raise NotAlgebraicError(f"{name} of a number is hardly algebraic")
        part = _part_of_pi(argument)
        sine = part - Fraction(1, 2)  # the sine is the cosine of that
        for angle in {"cos": (part,), "sin": (sine,)}.get(name, (part, sine)):
            self.turns = math.lcm(self.turns, 2 * angle.denominator)
        return 1, 1  # twice a cosine is an algebraic integer, and none of its conjugates is above 2

    def _root(self, radicand: Node, index: int) -> Size:
        u, v = self.size(radicand)
        if index == 1:
            return u, v
        number = radicand[1] if radicand[0] == "number" else None
        if number is not None and max(abs(number.numerator), number.denominator) <= MAX_RADICAND:
            counts = factors(abs(number.numerator) or 1) | factors(number.denominator)
            # The root of 12 is in the field of the root of 3.
            self.roots |= {(prime, index) for prime, count in counts.items() if count % index}
        else:
            self.roots.add((radicand, index))
        if u >= v:
            return (u + (index - 1) * v) / index, v
        return u, ((index - 1) * u + v) / index


class _Evaluation:
    """Values of real expressions as intervals."""

    def __init__(self, digits: int, *, is_proof: bool) -> None:
        """Take so many digits; if they are a proof, what looks like zero is zero."""
        # Twice as many: what operations lose is far less than that.
        self.digits, self.one, self.narrow = 2 * digits, 1 << 2 * digits, 1 << digits
        self.is_proof = is_proof

    def value(self, node: Node) -> Interval:
        """Where the value of a node lies; nothing but zero has (0, 0)."""
        low, high = self._value(node)
        is_zero = low <= 0 <= high
        if high - low >= self.narrow or (is_zero and low < high and not self.is_proof):
            raise NotAlgebraicError("its value is not known well enough")
        return (0, 0) if is_zero else (low, high)

    def _value(self, node: Node) -> Interval:
        kind = node[0]
        if kind == "number":
            above, below = node[1].numerator * self.one, node[1].denominator
            return above // below, -(-above // below)
        if kind == "call":
            return self._call(node)
        first = self.value(node[1])
        if kind == "^":
            return self._power(first, _exponent(node[2]))
        second = self.value(node[2])
        if kind == "+":
            return first[0] + second[0], first[1] + second[1]
        return self._product(first, second if kind == "*" else self._inverse(second))

    def _call(self, node: Node) -> Interval:
        name, argument = node[1], node[2]
        if name in ("sin", "cos", "tan"):
            part = _part_of_pi(argument)
            if name == "cos":
                return self._cosine(part)
            sine = self._cosine(part - Fraction(1, 2))
            if name == "tan" and part % 1 == Fraction(1, 2):
                raise NotAlgebraicError("the tangent has no value there")
            return sine if name == "sin" else self._product(sine, self._inverse(self._cosine(part)))
        low, high = self.value(argument)
        if name == "abs":
            return (low, high) if low >= 0 else (-high, -low)
        return self._root((low, high), _index(node))

    def _product(self, first: Interval, second: Interval) -> Interval:
        ends = [a * b for a in first for b in second]
        return min(ends) >> self.digits, -(-max(ends) >> self.digits)

    def _inverse(self, value: Interval) -> Interval:
        if value == (0, 0):
            raise GrammarError("division by zero")
        if value[0] <= 0 <= value[1]:  # a power of something small is less than one unit
            raise NotAlgebraicError("its value is not known well enough")
        square = self.one << self.digits
        return square // value[1], -(-square // value[0])

    def _power(self, base: Interval, exponent: Fraction) -> Interval:
        if exponent < 0 and base == (0, 0):  # its root would be rounded outwards: no longer nothing
            raise GrammarError("division by zero")
        factor, count = self._root(base, exponent.denominator), abs(exponent.numerator)
        result = (self.one, self.one)
        for bit in f"{count:b}":
            result = self._product(result, result)
            result = self._product(result, factor) if bit == "1" else result
        return result if exponent > 0 else self._inverse(result)

    def _root(self, value: Interval, index: int) -> Interval:
        low, high = value
        if index == 1:
            return value
        if low < 0:
            raise NotAlgebraicError("the root of a negative number is not real")
        shift = self.digits * (index - 1)
        if shift > _MAX_ROOT_DIGITS:
            raise NotAlgebraicError("a root takes too many digits")
        return whole_root(low << shift, index), whole_root(high << shift, index) + 1

    def _cosine(self, part: Fraction) -> Interval:
        """Of `part` half turns, by its series from zero to a quarter turn."""
        part = abs((part + 1) % 2 - 1)
        if part > Fraction(1, 2):
            low, high = self._cosine(1 - part)
            return -high, -low
        if part == Fraction(1, 2):
            return 0, 0
        angle = pi(self.digits) * part.numerator // part.denominator
        square, term, total, n = angle * angle >> self.digits, self.one, self.one, 0
        while term:
            n += 2
            term = (term * square >> self.digits) // (n * (n - 1))
            total += -term if n % 4 else term
        slack = 2 * n + 32  # the angle is off by 3 units, its square by 12, each term by less
        return total - slack, total + slack


def _rational(node: Node) -> Fraction:
    try:
        return Fraction(evaluate(node))
    except GrammarError as error:
        raise NotAlgebraicError(str(error)) from error


def _exponent(node: Node) -> Fraction:
    """Of a power; not zero."""
    exponent = _rational(node)
    if not exponent or abs(exponent) > MAX_DEGREE or exponent.denominator > _MAX_INDEX:
        raise NotAlgebraicError("no such exponent here")
    return exponent


def _index(node: Node) -> int:
    """Of a root: 2, or what is given."""
    index = _rational(node[3]) if node[1] == "root" else Fraction(2)
    if index.denominator != 1 or not 1 <= index <= _MAX_INDEX:
        raise NotAlgebraicError("no such root here")
    return index.numerator


def _part_of_pi(node: Node) -> Fraction:
    """What the argument of a cosine is, in half turns."""
    if node == _PI:
        return Fraction(1)
    if node == ("number", 0):
        return Fraction(0)
    if node[0] == "+":
        return _part_of_pi(node[1]) + _part_of_pi(node[2])
    if node[0] == "/" and (below := _rational(node[2])):
        return _part_of_pi(node[1]) / below
    if node[0] == "*":
        first, second = node[1:] if _has_pi(node[2]) else (node[2], node[1])
        return _rational(first) * _part_of_pi(second)
    raise NotAlgebraicError("an angle that is no part of a turn")


def _has_pi(node: Node) -> bool:
    return node == _PI or any(isinstance(part, tuple) and _has_pi(part) for part in node[1:])
