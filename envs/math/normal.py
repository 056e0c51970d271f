"""Normal forms: exact equality of algebraic expressions, in this process and without a library.

An expression of numbers, variables, pi, e, i and square roots of rationals is a quotient of two
polynomials in those variables, pi, e and the roots of primes (and of -1, which is i); roots satisfy
r * r = p. Products of different roots are linearly independent over the rationals, so a polynomial
is zero only if it has no terms, and a/b = c/d exactly if a*d - b*c has none. Sizes are capped.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from .grammar import GrammarError, Node
from .rationals import power

Monomial = tuple[tuple[str, int], ...]
"""Generators with their powers, sorted; a root is named by its square: `r2`, `r-1`."""
Polynomial = Mapping[Monomial, Fraction]
Quotient = tuple[Polynomial, Polynomial]

MAX_PRODUCTS = 20_000
"""Products of terms in one comparison, about 50 ms; more is refused, whatever the machine."""
MAX_DEGREE = 60
MAX_BITS = 4000
MAX_RADICAND = 10**6
"""Roots of larger numbers are left to the slow path: their prime factors take too long."""

_ONE: Polynomial = {(): Fraction(1)}
_ROOT, _ATOM = "r", "f"


class NotAlgebraicError(GrammarError):
    """The expression has no normal form here: sines, roots of variables, a high degree, ..."""


def are_equal(left: Node, right: Node) -> bool:
    """Are two expressions the same function?

    Raises:
        NotAlgebraicError: One of them has no normal form.
        GrammarError: One divides by zero or is too large.
    """
    return _are_equal(Normalizer(), left, right)


def are_surely_equal(left: Node, right: Node) -> bool:
    """Are they the same, even if nothing is known of sines, logarithms and such?

    False means: perhaps not.

    Raises:
        GrammarError: One divides by zero or is too large.
    """
    try:
        return _are_equal(Normalizer(has_atoms=True), left, right)
    except NotAlgebraicError:
        return False


def _are_equal(normalizer: Normalizer, left: Node, right: Node) -> bool:
    (a, b), (c, d) = normalizer.normal_form(left), normalizer.normal_form(right)
    return normalizer.multiply(a, d) == normalizer.multiply(b, c)


def rational(quotient: Quotient) -> Fraction | None:
    """The number that a quotient is; None where it is none."""
    above, below = quotient
    if set(above) <= {()} and set(below) == {()}:
        return above.get((), Fraction(0)) / below[()]
    return None


def square_free(number: int) -> tuple[int, list[int]]:
    """`outside` and primes (and -1) with outside**2 * their product == number."""
    outside, roots = 1, [-1] if number < 0 else []
    number, prime = abs(number), 2
    while prime * prime <= number:
        count = 0
        while number % prime == 0:
            number, count = number // prime, count + 1
        outside *= prime ** (count // 2)
        roots += [prime] * (count % 2)
        prime += 1
    return outside, roots + [number] * (number > 1)


class Normalizer:
    """Brings expressions to normal form within a budget of work.

    With `has_atoms`, `sin(x)` is one more generator; the same argument gives the same generator.
    """

    def __init__(self, *, has_atoms: bool = False) -> None:
        self.has_atoms = has_atoms
        self.products = 0
        self.atoms: dict[tuple[object, ...], int] = {}

    def normal_form(self, node: Node) -> Quotient:
        """Numerator and denominator.

        Raises:
            NotAlgebraicError: It has none.
            GrammarError: It divides by zero or is too large.
        """
        kind = node[0]
        if kind == "number":
            return _constant(node[1]), _ONE
        if kind == "name":
            generator = f"{_ROOT}-1" if node[1] == "i" else f"_{node[1]}"
            return {((generator, 1),): Fraction(1)}, _ONE
        if kind == "call":
            return self._call(node[1], [self.normal_form(argument) for argument in node[2:]])
        first, second = self.normal_form(node[1]), self.normal_form(node[2])
        if kind == "^":
            return self._power(first, second)
        (a, b), (c, d) = first, second
        if kind == "+":
            above = _sum(self.multiply(a, d), self.multiply(b, c))
            return _quotient(above, self.multiply(b, d))
        if kind == "/":
            c, d = d, _divisor(c)
        return _quotient(self.multiply(a, c), self.multiply(b, d))

    def multiply(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """Product."""
        if right is _ONE:
            return left
        if left is _ONE:
            return right
        self.products += len(left) * len(right)
        if self.products > MAX_PRODUCTS:
            raise GrammarError("the expression is too large")
        terms: dict[Monomial, Fraction] = {}
        for first, a in left.items():
            for second, b in right.items():
                monomial, factor = _product(first, second)
                term = a * b if factor == 1 else a * b * factor
                terms[monomial] = terms[monomial] + term if monomial in terms else term
        return _bounded({monomial: total for monomial, total in terms.items() if total})

    def _call(self, name: str, arguments: list[Quotient]) -> Quotient:
        known = _square_root(arguments[0]) if name == "sqrt" else None
        if known is not None:
            return known, _ONE
        if not self.has_atoms:
            raise NotAlgebraicError(f"{name} has no normal form here")
        parts = (tuple(sorted(part.items())) for argument in arguments for part in argument)
        key = ("log" if name == "ln" else name, *parts)
        number = self.atoms.setdefault(key, len(self.atoms))
        return {((f"{_ATOM}{number}", 1),): Fraction(1)}, _ONE

    def _power(self, base: Quotient, exponent: Quotient) -> Quotient:
        number = rational(exponent)
        if number == Fraction(1, 2):
            return self._call("sqrt", [base])
        if number is None or number.denominator != 1:
            return self._call("power", [base, exponent])
        known = rational(base)
        if known is not None:
            return _constant(power(known, number)), _ONE
        if not number:
            return _ONE, _ONE
        above, below = base if number > 0 else (base[1], _divisor(base[0]))
        if abs(number) > MAX_DEGREE:
            raise NotAlgebraicError(f"the degree is above {MAX_DEGREE}")
        result: Quotient = (above, below)
        for _ in range(abs(number.numerator) - 1):
            result = self.multiply(result[0], above), self.multiply(result[1], below)
        return _quotient(*result)


def _constant(number: Fraction) -> Polynomial:
    return _bounded({(): number}) if number else {}


def _sum(left: Polynomial, right: Polynomial) -> Polynomial:
    terms = dict(left)
    for monomial, coefficient in right.items():
        total = terms[monomial] + coefficient if monomial in terms else coefficient
        if total:
            terms[monomial] = total
        else:
            del terms[monomial]
    return _bounded(terms)


def _product(first: Monomial, second: Monomial) -> tuple[Monomial, int]:
    """Monomial and integer factor: roots that meet themselves leave their square."""
    if not first or not second:
        return first or second, 1
    powers, factor = dict(first), 1
    for generator, exponent in second:
        total = exponent + powers.get(generator, 0)
        if generator[0] == _ROOT and total == 2:
            factor *= int(generator[1:])
            del powers[generator]
        elif total > MAX_DEGREE:
            raise NotAlgebraicError(f"the degree is above {MAX_DEGREE}")
        else:
            powers[generator] = total
    return tuple(sorted(powers.items())), factor


def _quotient(above: Polynomial, below: Polynomial) -> Quotient:
    """A numeric denominator is divided out, so that most denominators are one."""
    if below is _ONE or set(below) != {()}:
        return above, below
    number = below[()]
    return {monomial: total / number for monomial, total in above.items()}, _ONE


def _divisor(polynomial: Polynomial) -> Polynomial:
    """The polynomial, if it is certain that it is not zero."""
    if not polynomial:
        raise GrammarError("division by zero")
    if any(name[0] == _ATOM for monomial in polynomial for name, _ in monomial):
        raise NotAlgebraicError("a function below the bar may be zero")
    return polynomial


def _square_root(argument: Quotient) -> Polynomial | None:
    """The root of a rational that is not too large; None of anything else."""
    number = rational(argument)
    if number is None or abs(number.numerator * number.denominator) > MAX_RADICAND:
        return None
    if not number:
        return {}
    radicand = number.numerator * number.denominator
    outside, roots = square_free(radicand)
    monomial = tuple(sorted((f"{_ROOT}{root}", 1) for root in roots))
    return {monomial: Fraction(outside, number.denominator)}


def _bounded(terms: dict[Monomial, Fraction]) -> dict[Monomial, Fraction]:
    for coefficient in terms.values():
        if max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length()) > MAX_BITS:
            raise GrammarError("a number is too large")
    return terms
