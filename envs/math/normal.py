"""Normal forms: exact equality of algebraic expressions, in this process and without a library.

An expression of numbers, variables, pi, e, i and roots of rationals is a quotient of two
polynomials in those variables, pi, e, and powers of primes between 0 and 1 (and of -1: i). Products
of such powers of different primes are linearly independent over the rationals (Besicovitch 1940,
J. London Math. Soc. 15), so a polynomial is zero only if it has no terms, and a/b = c/d exactly if
a*d - b*c has none. Sizes are capped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cache

from .grammar import GrammarError, Node
from .rationals import power

Monomial = tuple[tuple[str, int], ...]
"""Generators with their powers, sorted. `r2` is 2, `r-1` is -1 and `q_x` is x; theirs are counted
in parts of `WHOLE`, so that most roots are integers: the root of 2 is `("r2", WHOLE // 2)`."""
Polynomial = Mapping[Monomial, Fraction]
Quotient = tuple[Polynomial, Polynomial]

MAX_PRODUCTS = 20_000
"""Products of terms in one comparison, about 50 ms; more is refused, whatever the machine."""
MAX_DEGREE = 60
MAX_BITS = 4000
MAX_RADICAND = 10**6
"""Roots of larger numbers are left to the slow path: their prime factors take too long."""

ONE: Polynomial = {(): Fraction(1)}
WHOLE = 840
"""Parts in which roots are counted: up to eighth ones, tenth, twelfth, ... are whole numbers."""
_ROOT, _ROOT_OF_VARIABLE, _VARIABLE = "r", "q", "_"
IMAGINARY: Polynomial = {((f"{_ROOT}-1", WHOLE // 2),): Fraction(1)}


class NotAlgebraicError(GrammarError):
    """The expression has no normal form here: sines, roots of variables, a high degree, ..."""


def are_equal(left: Node, right: Node) -> bool:
    """Are two expressions the same function?

    Raises:
        NotAlgebraicError: One of them has no normal form.
        GrammarError: One divides by zero or is too large.
    """
    return Normalizer().are_equal(left, right)


def rational(quotient: Quotient) -> Fraction | None:
    """The number that a quotient is; None where it is none."""
    above, below = quotient
    if set(above) <= {()} and set(below) == {()}:
        return above.get((), Fraction(0)) / below[()]
    return None


def square_free(number: int) -> int:
    """The largest number whose square divides `number`, which is at least 1."""
    return math.prod(prime ** (count // 2) for prime, count in factors(number).items())


def factors(number: int) -> dict[int, int]:
    """The factors of a positive number and how often each divides it: prime up to `MAX_RADICAND`.

    Of a larger number, what its primes below the root of `MAX_RADICAND` leave is one factor.
    """
    found: dict[int, int] = {}
    for prime in _small_primes():
        if prime * prime > number:
            break
        while number % prime == 0:
            number, found[prime] = number // prime, found.get(prime, 0) + 1
    if number > 1:
        found[number] = found.get(number, 0) + 1
    return found


@cache
def _small_primes() -> list[int]:
    """Enough for the prime factors of any number up to `MAX_RADICAND`."""
    limit = math.isqrt(MAX_RADICAND)
    return [n for n in range(2, limit + 1) if all(n % p for p in range(2, math.isqrt(n) + 1))]


class Normalizer:
    """Brings expressions to normal form within a budget of work."""

    def __init__(self) -> None:
        self.products = 0

    def are_equal(self, left: Node, right: Node) -> bool:
        """Have two expressions the same normal form?"""
        (a, b), (c, d) = self.normal_form(left), self.normal_form(right)
        return self.multiply(a, d) == self.multiply(b, c)

    def normal_form(self, node: Node) -> Quotient:
        """Numerator and denominator.

        Raises:
            NotAlgebraicError: It has none.
            GrammarError: It divides by zero or is too large.
        """
        kind = node[0]
        if kind == "number":
            return constant(node[1]), ONE
        if kind == "name":
            return self.named(node[1])
        if kind == "call":
            return self.call(node[1], [self.normal_form(argument) for argument in node[2:]])
        first, second = self.normal_form(node[1]), self.normal_form(node[2])
        if kind == "^":
            return self.power(first, second)
        (a, b), (c, d) = first, second
        if kind == "+":
            above = add(self.multiply(a, d), self.multiply(b, c))
            return quotient(above, self.multiply(b, d))
        if kind == "/":
            c, d = inverse((c, d))
        return quotient(self.multiply(a, c), self.multiply(b, d))

    def multiply(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """Product.

        Raises:
            GrammarError: The comparison takes more than `MAX_PRODUCTS`, or numbers get too large.
        """
        if right is ONE:
            return left
        if left is ONE:
            return right
        if not left or not right:
            return {}
        # A product takes longer where monomials have many generators, and all are much alike.
        generators = len(next(iter(left))) + len(next(iter(right)))
        self.products += len(left) * len(right) * (1 + generators // 8)
        if self.products > MAX_PRODUCTS:
            raise GrammarError("the expression is too large")
        terms: dict[Monomial, Fraction] = {}
        for first, a in left.items():
            for second, b in right.items():
                monomial, factor = _product(first, second)
                term = a * b if factor == 1 else a * b * factor
                terms[monomial] = terms[monomial] + term if monomial in terms else term
        return bounded({monomial: total for monomial, total in terms.items() if total})

    def named(self, name: str) -> Quotient:
        """A variable, or a constant."""
        return (IMAGINARY if name == "i" else {((f"_{name}", 1),): Fraction(1)}), ONE

    def call(self, name: str, arguments: list[Quotient]) -> Quotient:
        """A function of arguments in normal form."""
        if name == "sqrt":
            return self.power(arguments[0], (constant(Fraction(1, 2)), ONE))
        if name == "root":
            return self.power(arguments[0], inverse(arguments[1]))
        return self.beyond(name, arguments)

    def power(self, base: Quotient, exponent: Quotient) -> Quotient:
        """A power; of anything but rationals, with integer exponents.

        Raises:
            GrammarError: It has no normal form, does not exist, or is too large.
        """
        number, known = rational(exponent), rational(base)
        if number is None:
            return self.beyond("power", [base, exponent])
        if known is not None:
            root = root_of(known, number)
            return (root, ONE) if root is not None else self.beyond("power", [base, exponent])
        if number.denominator != 1:
            return self.beyond("power", [base, exponent])
        if not number:
            return ONE, ONE
        above, below = base if number > 0 else inverse(base)
        if abs(number) > MAX_DEGREE:
            raise NotAlgebraicError(f"the degree is above {MAX_DEGREE}")
        result: Quotient = (above, below)
        for _ in range(abs(number.numerator) - 1):
            result = self.multiply(result[0], above), self.multiply(result[1], below)
        return quotient(*result)

    def beyond(self, name: str, arguments: list[Quotient]) -> Quotient:
        """What is no quotient of polynomials.

        Raises:
            NotAlgebraicError: Always here; `functions` knows more.
        """
        raise NotAlgebraicError(f"{name} has no normal form here")


def constant(number: Fraction) -> Polynomial:
    """A number as a polynomial."""
    return bounded({(): number}) if number else {}


def root_of(base: Fraction, exponent: Fraction) -> Polynomial | None:
    """A power of a rational as a product of powers of primes; None where it is none here.

    Raises:
        GrammarError: It does not exist, or is too large.
    """
    if exponent.denominator == 1:
        return constant(power(base, exponent))
    if not base:
        return constant(power(base, Fraction(1 if exponent > 0 else -1)))
    parts = exponent * WHOLE
    is_known = max(abs(base.numerator), base.denominator) <= MAX_RADICAND
    if not is_known or parts.denominator != 1 or (base < 0 and exponent.denominator != 2):
        return None
    whole, root = Fraction(1), dict[str, int]()
    counts = factors(abs(base.numerator)) | {p: -n for p, n in factors(base.denominator).items()}
    for prime, count in ({-1: 1} if base < 0 else {}).items() | counts.items():
        wholes, left = divmod(count * parts.numerator, WHOLE)
        whole *= power(Fraction(prime), Fraction(wholes))
        if left:
            root[f"{_ROOT}{prime}"] = left
    return bounded({tuple(sorted(root.items())): whole})


def add(left: Polynomial, right: Polynomial) -> Polynomial:
    """Sum."""
    terms = dict(left)
    for monomial, coefficient in right.items():
        total = terms[monomial] + coefficient if monomial in terms else coefficient
        if total:
            terms[monomial] = total
        else:
            del terms[monomial]
    return bounded(terms)


def _product(first: Monomial, second: Monomial) -> tuple[Monomial, int]:
    """Monomial and integer factor: roots that meet themselves leave their square."""
    if not first or not second:
        return first or second, 1
    powers, factor = dict(first), 1
    for generator, exponent in second:
        total = exponent + powers.get(generator, 0)
        if generator[0] == _ROOT and total >= WHOLE:
            factor *= int(generator[1:])
            total -= WHOLE
        elif generator[0] == _ROOT_OF_VARIABLE and total >= WHOLE:
            powers[generator[1:]] = powers.get(generator[1:], 0) + 1
            total -= WHOLE
        elif generator[0] == _VARIABLE and total > MAX_DEGREE:
            raise NotAlgebraicError(f"the degree is above {MAX_DEGREE}")
        if total:
            powers[generator] = total
        else:
            powers.pop(generator, None)
    return tuple(sorted(powers.items())), factor


def quotient(above: Polynomial, below: Polynomial) -> Quotient:
    """A numeric denominator is divided out, so that most denominators are one."""
    if below is ONE or set(below) != {()}:
        return above, below
    number = below[()]
    return {monomial: total / number for monomial, total in above.items()}, ONE


def inverse(base: Quotient) -> Quotient:
    """One over a quotient.

    Raises:
        GrammarError: It is zero.
    """
    if not base[0]:
        raise GrammarError("division by zero")
    return quotient(base[1], base[0])


def bounded(terms: dict[Monomial, Fraction]) -> dict[Monomial, Fraction]:
    """The terms, if their numbers are not too large.

    Raises:
        GrammarError: One is.
    """
    for coefficient in terms.values():
        if max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length()) > MAX_BITS:
            raise GrammarError("a number is too large")
    return terms
