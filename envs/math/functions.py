"""Normal forms of expressions with exponentials, logarithms, sines and roots: proofs of equality.

Everything becomes a quotient of polynomials whose generators are also `exp(m)` of monomials m, and
logarithms. Each rule holds for principal branches and real variables wherever both sides exist:

    exp(u + v) = exp(u) exp(v)      exp(c log p) = p^c       sin, cos, tan by exponentials
    a^b = exp(b log a)              log(c u) = log c + log u for a positive number c
    log(exp u) = u for real u       exp(i pi / 12 k) = its roots

Different forms prove nothing: some are equal all the same, and for those there is sympy.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from . import normal
from .grammar import GrammarError, Node
from .normal import ONE, WHOLE, Monomial, Polynomial, Quotient, add

_Key = tuple[tuple[Monomial, Fraction], ...]
"""A polynomial in order."""
_I_PI: Monomial = (("_pi", 1), ("r-1", WHOLE // 2))


def have_one_form(left: Node, right: Node) -> bool:
    """Are they equal by the rules above? False means: perhaps not.

    True is a proof where both have values at a point (`numeric.compare`), for then no divisor
    vanishes everywhere.
    """
    try:
        return FunctionNormalizer().are_equal(left, right)
    except GrammarError:
        return False


class FunctionNormalizer(normal.Normalizer):
    """Knows the rules; every new function of an argument becomes one more generator."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[tuple[object, ...], str] = {}
        self.logarithm_of: dict[str, int | str | Polynomial] = {}
        """What a generator is the logarithm of: a prime, a variable (or pi), or a polynomial."""
        self.exponent_of: dict[str, Monomial] = {}
        self.root_of: dict[str, Polynomial] = {}
        """What a generator, the exponential of its logarithm, is."""

    def named(self, name: str) -> Quotient:
        """A variable or constant; e is exp(1)."""
        return self.exp((ONE, ONE)) if name == "e" else super().named(name)

    def beyond(self, name: str, arguments: list[Quotient]) -> Quotient:
        """A function, by the rules."""
        first, *others = arguments
        if name == "power":
            return self.exp(self.times(self.log(first), others[0]))
        if name == "exp":
            return self.exp(first)
        if name in ("log", "ln"):
            return self.log(first)
        if name == "sin":
            return self.wave(first, -1)
        if name == "cos":
            return self.wave(first, 1)
        if name == "tan":
            return self.times(self.wave(first, -1), normal.inverse(self.wave(first, 1)))
        content, *rest = _content(first)
        if rest == [_key(ONE), _key(ONE)]:
            return normal.constant(abs(content)), ONE
        return {((self.generator(name, *rest), 1),): abs(content)}, ONE  # abs(-2u) = 2 abs(u)

    def power(self, base: Quotient, exponent: Quotient) -> Quotient:
        """A power; a high one of anything but rationals by logarithm."""
        number = normal.rational(exponent)
        if number is not None and abs(number) > normal.MAX_DEGREE and normal.rational(base) is None:
            return self.beyond("power", [base, exponent])
        return super().power(base, exponent)

    def multiply(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """Product, in which roots of polynomials that meet themselves are multiplied out."""
        product = super().multiply(left, right)
        return self.without_wholes(product) if self.root_of else product

    def without_wholes(self, polynomial: Polynomial) -> Polynomial:
        """The same, without powers of roots that are wholes."""
        waiting, done = dict(polynomial), dict[Monomial, Fraction]()
        while waiting:
            monomial, number = waiting.popitem()
            powers = dict(monomial)
            name = next((n for n in powers if n in self.root_of and powers[n] >= WHOLE), None)
            if name is None:
                done = dict(add(done, {monomial: number}))
                continue
            powers[name] -= WHOLE
            rest = {tuple(sorted((n, p) for n, p in powers.items() if p)): number}
            waiting = dict(add(waiting, super().multiply(rest, self.root_of[name])))
        return done

    def times(self, left: Quotient, right: Quotient) -> Quotient:
        """Product of quotients."""
        (a, b), (c, d) = left, right
        return normal.quotient(self.multiply(a, c), self.multiply(b, d))

    def wave(self, argument: Quotient, sign: int) -> Quotient:
        """Cosine (sign 1) or sine (sign -1): (exp(iu) + sign * exp(-iu)) / 2, over i for sine."""
        above, below = argument
        turned = self.multiply(normal.IMAGINARY, above)
        (a, b), (c, d) = self.exp((turned, below)), self.exp((_minus(turned), below))
        if sign < 0:
            c = _minus(c)
        total = add(self.multiply(a, d), self.multiply(b, c))
        half = {
            m: (n / 2 if sign > 0 else -n / 2)
            for m, n in (ONE if sign > 0 else normal.IMAGINARY).items()
        }
        return normal.quotient(self.multiply(half, total), self.multiply(b, d))

    def exp(self, argument: Quotient) -> Quotient:
        """The product of the exponentials of the terms."""
        above, below = argument
        if below is not ONE:
            return {((self.generator("E", _key(above), _key(below)), WHOLE),): Fraction(1)}, ONE
        result: Quotient = ONE, ONE
        for monomial, coefficient in above.items():
            result = self.times(result, self.exp_term(monomial, coefficient))
        return result

    def exp_term(self, monomial: Monomial, coefficient: Fraction) -> Quotient:
        """exp(coefficient * monomial)."""
        parts = coefficient * WHOLE
        if monomial == _I_PI and (coefficient * 12).denominator == 1:
            return _turns()[int(coefficient * 12) % 24], ONE
        name, power = monomial[0] if len(monomial) == 1 else ("", 0)
        known = self.logarithm_of.get(name) if power == 1 else None
        if (
            isinstance(known, int)
            and (root := normal.root_of(Fraction(known), coefficient)) is not None
        ):
            return root, ONE
        if parts.denominator != 1:
            raise normal.NotAlgebraicError(f"no root of {coefficient.denominator} parts here")
        if isinstance(known, str):
            return _power_of_variable(known, parts.numerator)
        generator = self.generator("E", monomial)
        self.exponent_of[generator] = monomial
        if known is not None and not isinstance(known, int):
            self.root_of[generator] = known
            wholes = self.without_wholes({((generator, abs(parts.numerator)),): Fraction(1)})
            return (wholes, ONE) if parts > 0 else (ONE, wholes)
        return {((generator, parts.numerator),): Fraction(1)}, ONE

    def log(self, argument: Quotient) -> Quotient:
        """Of a positive number the sum over its factors; otherwise of the argument but for those.

        Raises:
            GrammarError: The argument is zero.
        """
        content, above, below = _content(argument)
        result = self.log_of_number(abs(content))
        terms = [*above, *below]
        if len(terms) == 2 and all(self.is_positive(monomial) for monomial, _ in terms):
            for sign, (monomial, _) in zip((1, -1), terms, strict=True):
                for name, power in monomial:
                    result = add(result, self.log_of_generator(name, sign * power))
            return (add(result, {_I_PI: Fraction(1)}) if content < 0 else result), ONE
        if content < 0:  # the sign stays with the argument
            above = tuple((monomial, -number) for monomial, number in above)
        generator = self.generator("L", above, below)
        if below == _key(ONE):
            self.logarithm_of[generator] = _variable(above) or dict(above)
        return add(result, {((generator, 1),): Fraction(1)}), ONE

    def log_of_number(self, number: Fraction) -> Polynomial:
        """Of a positive rational; a product of large primes counts as one."""
        result: Polynomial = {}
        for sign, part in ((1, number.numerator), (-1, number.denominator)):
            for prime, count in normal.factors(part).items():
                generator = self.generator("L", prime)
                self.logarithm_of[generator] = prime
                result = add(result, {((generator, 1),): Fraction(sign * count)})
        return result

    def log_of_generator(self, name: str, power: int) -> Polynomial:
        """The logarithm of a power of a positive generator."""
        if name in self.exponent_of:
            return {self.exponent_of[name]: Fraction(power, WHOLE)}
        if name[0] == "r":
            logarithm = self.log_of_number(Fraction(int(name[1:])))
            return {monomial: n * power / WHOLE for monomial, n in logarithm.items()}
        generator = self.generator("L", name[-3:])  # _pi, or a root of it
        self.logarithm_of[generator] = "_pi"
        return {((generator, 1),): Fraction(power, WHOLE if name[0] == "q" else 1)}

    def is_positive(self, monomial: Monomial) -> bool:
        """Is it positive whatever the variables? Roots of primes, pi, and exp of what is real."""
        return all(
            name in ("_pi", "q_pi")
            or (name[0] == "r" and name != "r-1")
            or (name in self.exponent_of and self.is_real(self.exponent_of[name]))
            for name, _ in monomial
        )

    def is_real(self, monomial: Monomial) -> bool:
        """Is it real whatever the variables, which are real?"""
        return all(
            name[0] == "_"
            or isinstance(self.logarithm_of.get(name), int)
            or self.logarithm_of.get(name) == "_pi"
            or self.is_positive(((name, power),))
            for name, power in monomial
        )

    def generator(self, kind: str, *meaning: object) -> str:
        """The name of a generator; the same meaning gets the same one."""
        return self.names.setdefault((kind, *meaning), f"{kind}{len(self.names)}")


def _content(argument: Quotient) -> tuple[Fraction, _Key, _Key]:
    """A number, and the keys of numerator and denominator of a quotient without it."""
    above, below = argument
    if not above:
        raise GrammarError("a function of zero that does not exist, or is for sympy")
    first, second = above[min(above)], below[min(below)]
    rest = ({m: n / first for m, n in above.items()}, {m: n / second for m, n in below.items()})
    return first / second, _key(rest[0]), _key(rest[1])


def _key(polynomial: Polynomial) -> _Key:
    return tuple(sorted(polynomial.items()))


def _variable(terms: _Key) -> str | None:
    """The variable that a polynomial is, if it is one."""
    [(monomial, number), *others] = terms
    is_one = not others and number == 1 and len(monomial) == 1 and monomial[0][1] == 1
    return monomial[0][0] if is_one and monomial[0][0][0] == "_" else None


def _minus(polynomial: Polynomial) -> Polynomial:
    return {monomial: -number for monomial, number in polynomial.items()}


def _power_of_variable(name: str, parts: int) -> Quotient:
    """A variable to a power in parts of `WHOLE`: x^(1/2) * x^(1/2) = x on every branch."""
    wholes, left = divmod(abs(parts), WHOLE)
    powers = [(name, wholes)] * bool(wholes) + [("q" + name, left)] * bool(left)
    power: Polynomial = {tuple(powers): Fraction(1)}
    return (power, ONE) if parts > 0 else (ONE, power)


@cache
def _turns() -> list[Polynomial]:
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
