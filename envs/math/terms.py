"""Polynomials of `normal` taken apart: what the rules of `functions` look at."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from . import normal
from .grammar import GrammarError
from .normal import ONE, WHOLE, Monomial, Polynomial, Quotient

Key = tuple[tuple[Monomial, Fraction], ...]
"""A polynomial in order."""
I_PI: Monomial = (("_pi", 1), ("r-1", WHOLE // 2))
_MAX_ROOT_TERMS = 12
UNIT: Key = (((), Fraction(1)),)
I: Key = (((("r-1", WHOLE // 2),), Fraction(1)),)  # noqa: E741 what else


def content(argument: Quotient) -> tuple[Fraction, Key, Key]:
    """A number, and the keys of numerator and denominator of a quotient without it.

    Raises:
        GrammarError: The quotient is zero.
    """
    above, below = argument
    if not above:
        raise GrammarError("a function of zero that does not exist, or is for sympy")
    first, second = above[min(above)], below[min(below)]
    rest = ({m: n / first for m, n in above.items()}, {m: n / second for m, n in below.items()})
    return first / second, key(rest[0]), key(rest[1])


def key(polynomial: Polynomial) -> Key:
    """The same for equal polynomials."""
    return tuple(sorted(polynomial.items()))


def variable(terms: Key) -> str | None:
    """The variable that a polynomial is, if it is one."""
    [(monomial, number), *others] = terms
    is_one = not others and number == 1 and len(monomial) == 1 and monomial[0][1] == 1
    return monomial[0][0] if is_one and monomial[0][0][0] == "_" else None


def minus(polynomial: Polynomial) -> Polynomial:
    """Its negative."""
    return {monomial: -number for monomial, number in polynomial.items()}


def difference(left: Polynomial, right: Polynomial) -> Polynomial:
    """One less the other."""
    return normal.add(left, minus(right))


def square_root(polynomial: Polynomial) -> Polynomial | None:
    """A short polynomial whose square it is; None where none is found."""
    names = sorted({name for monomial in polynomial for name, _ in monomial})
    left = {tuple(dict(m).get(n, 0) for n in names): c for m, c in polynomial.items()}
    lead = max(left)
    number = normal.root_of(left[lead], Fraction(1, 2)) if left[lead] > 0 else None
    if number is None or set(number) != {()} or any(power % 2 for power in lead):
        return None
    half, root = tuple(power // 2 for power in lead), dict[tuple[int, ...], Fraction]()
    term, factor = half, number[()]
    while len(root) < min(len(polynomial), _MAX_ROOT_TERMS):
        for other, coefficient in root.items():
            _subtract(left, term, other, 2 * factor * coefficient)
        _subtract(left, term, term, factor * factor)
        root[term] = factor
        if not left:
            return {
                tuple((n, p) for n, p in zip(names, powers, strict=True) if p): c
                for powers, c in root.items()
            }
        lead = max(left)
        term, factor = tuple(a - b for a, b in zip(lead, half, strict=True)), left[lead]
        factor /= 2 * root[half]
    return None


def _subtract(
    left: dict[tuple[int, ...], Fraction],
    one: tuple[int, ...],
    other: tuple[int, ...],
    number: Fraction,
) -> None:
    """Take the product of two terms away."""
    powers = tuple(a + b for a, b in zip(one, other, strict=True))
    if rest := left.get(powers, 0) - number:
        left[powers] = Fraction(rest)
    else:
        left.pop(powers, None)


def power_of_variable(name: str, parts: int) -> Quotient:
    """A variable to a power in parts of `WHOLE`: x^(1/2) * x^(1/2) = x on every branch."""
    wholes, left = divmod(abs(parts), WHOLE)
    powers = [(name, wholes)] * bool(wholes) + [("q" + name, left)] * bool(left)
    power: Polynomial = {tuple(powers): Fraction(1)}
    return (power, ONE) if parts > 0 else (ONE, power)


@cache
def turns() -> list[Polynomial]:
    """exp(i pi / 12 * k) for k from 0 to 23."""
    quarter = Fraction(1, 4)
    half = WHOLE // 2
    root_2, root_6 = (("r2", half),), (("r2", half), ("r3", half))
    step: Polynomial = {
        root_2: quarter,
        root_6: quarter,
        (("r-1", half), *root_6): quarter,
        (("r-1", half), *root_2): -quarter,
    }
    turns, normalizer = [ONE], normal.Normalizer()
    while len(turns) < 24:
        turns.append(normalizer.multiply(turns[-1], step))
    return turns
