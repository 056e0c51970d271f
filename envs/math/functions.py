"""Normal forms of expressions with exponentials, logarithms, sines and roots: proofs of equality.

Everything becomes a quotient of polynomials whose generators are also `exp(m)` of monomials m, and
logarithms. Each rule holds for principal branches and real variables wherever both sides exist:

    exp(u + v) = exp(u) exp(v)      exp(c log p) = p^c       sin, cos, tan by exponentials
    a^b = exp(b log a)              log(c u) = log c + log u for a positive number c
    log(exp u) = u for real u       exp(i pi / 12 k) = its roots
    |u| = sqrt(u conj(u))           log(u^c) = c log u for c between 0 and 1

Different forms prove nothing: some are equal all the same, and for those there is sympy. Equal
forms are a proof where both expressions have values at a point (`numeric.compare`), for then no
divisor vanishes everywhere.
"""

from __future__ import annotations

from fractions import Fraction

from . import normal, terms
from .normal import ONE, WHOLE, Monomial, Polynomial, Quotient, add


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
        self.squares: set[terms.Key] = set()
        """Polynomials, but for a factor, that are nowhere negative."""

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
        try:
            above, below = map(self.absolute, first)
        except normal.NotAlgebraicError:
            number, *rest = terms.content(first)
            return {((self.generator("A", *rest), 1),): abs(number)}, ONE  # |-2u| is 2|u|
        return self.times(above, normal.inverse(below))

    def power(self, base: Quotient, exponent: Quotient) -> Quotient:
        """A power; a high one of anything but rationals by logarithm."""
        number = normal.rational(exponent)
        if number is None or normal.rational(base) is not None:
            return super().power(base, exponent)
        if abs(number) > normal.MAX_DEGREE:
            return self.beyond("power", [base, exponent])
        if number.denominator == 2 and base[1] is ONE:
            root = terms.square_root(base[0])
            if root is not None and self.is_sum_of_positives(root):
                return super().power((root, ONE), (normal.constant(2 * number), ONE))
        return super().power(base, exponent)

    def multiply(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """Product, in which roots of polynomials that meet themselves are multiplied out."""
        product = super().multiply(left, right)
        return self.without_wholes(product) if self.root_of else product

    def without_wholes(self, polynomial: Polynomial) -> Polynomial:
        """The same, without powers of roots that are wholes."""
        waiting, done = list(polynomial.items()), dict[Monomial, Fraction]()
        while waiting:
            monomial, number = waiting.pop()
            name = next((n for n, p in monomial if p >= WHOLE and n in self.root_of), None)
            if name is None:
                done[monomial] = done.get(monomial, Fraction(0)) + number
                continue
            powers = dict(monomial)
            powers[name] -= WHOLE
            rest = {tuple(sorted((n, p) for n, p in powers.items() if p)): number}
            waiting += super().multiply(rest, self.root_of[name]).items()
        return normal.bounded({monomial: number for monomial, number in done.items() if number})

    def times(self, left: Quotient, right: Quotient) -> Quotient:
        """Product of quotients."""
        (a, b), (c, d) = left, right
        return normal.quotient(self.multiply(a, c), self.multiply(b, d))

    def wave(self, argument: Quotient, sign: int) -> Quotient:
        """Cosine (sign 1) or sine (sign -1): (exp(iu) + sign * exp(-iu)) / 2, over i for sine."""
        above, below = argument
        turned = self.multiply(normal.IMAGINARY, above)
        (a, b), (c, d) = self.exp((turned, below)), self.exp((terms.minus(turned), below))
        if sign < 0:
            c = terms.minus(c)
        total = add(self.multiply(a, d), self.multiply(b, c))
        half = {
            m: (n / 2 if sign > 0 else -n / 2)
            for m, n in (ONE if sign > 0 else normal.IMAGINARY).items()
        }
        return normal.quotient(self.multiply(half, total), self.multiply(b, d))

    def absolute(self, polynomial: Polynomial) -> Quotient:
        """The absolute value, as the root of the product with the conjugate, where that is known.

        Raises:
            GrammarError: The polynomial is zero, or it is not known.
        """
        if self.is_sum_of_positives(polynomial):
            return polynomial, ONE
        turned = [(*self.conjugate(m), number) for m, number in polynomial.items()]
        conjugate = {monomial: sign * number for sign, monomial, number in turned}
        square = self.multiply(polynomial, conjugate)
        self.squares.add(terms.content((square, ONE))[1])
        return self.power((square, ONE), (normal.constant(Fraction(1, 2)), ONE))

    def exp(self, argument: Quotient) -> Quotient:
        """The product of the exponentials of the terms."""
        above, below = argument
        if below is not ONE:
            name = self.generator("E", terms.key(above), terms.key(below))
            return {((name, WHOLE),): Fraction(1)}, ONE
        result: Quotient = ONE, ONE
        for monomial, coefficient in above.items():
            result = self.times(result, self.exp_term(monomial, coefficient))
        return result

    def exp_term(self, monomial: Monomial, coefficient: Fraction) -> Quotient:
        """exp(coefficient * monomial)."""
        parts = coefficient * WHOLE
        if monomial == terms.I_PI and (coefficient * 12).denominator == 1:
            return terms.turns()[int(coefficient * 12) % 24], ONE
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
            return terms.power_of_variable(known, parts.numerator)
        generator = self.generator("E", monomial)
        self.exponent_of[generator] = monomial
        if known is not None and not isinstance(known, int):
            self.root_of[generator] = known
            wholes = self.without_wholes({((generator, abs(parts.numerator)),): Fraction(1)})
            return (wholes, ONE) if parts > 0 else (ONE, wholes)
        return {((generator, parts.numerator),): Fraction(1)}, ONE

    def log(self, argument: Quotient) -> Quotient:
        """The sum over the factors that are positive numbers, and the logarithm of what is left.

        Raises:
            GrammarError: The argument is zero.
        """
        content, above, below = terms.content(argument)
        result = self.log_of_number(abs(content))
        if len(above) == len(below) == 1:
            result, above = self.log_of_positives(result, above, 1)
            result, below = self.log_of_positives(result, below, -1)
        if above == below == terms.UNIT:
            return (add(result, {terms.I_PI: Fraction(1)}) if content < 0 else result), ONE
        if below == terms.UNIT and above == terms.I:
            quarter = Fraction(1 if content > 0 else -1, 2)
            return add(result, {terms.I_PI: quarter}), ONE
        if content > 0 and below == terms.UNIT and (root := self.log_of_root(above)) is not None:
            return add(result, root), ONE
        if content < 0:  # the sign stays with the argument
            above = tuple((monomial, -number) for monomial, number in above)
        return add(result, self.log_generator(above, below)), ONE

    def log_generator(self, above: terms.Key, below: terms.Key = terms.UNIT) -> Polynomial:
        """The logarithm of what has no simpler one."""
        generator = self.generator("L", above, below)
        if below == terms.UNIT:
            self.logarithm_of[generator] = terms.variable(above) or dict(above)
        return {((generator, 1),): Fraction(1)}

    def log_of_number(self, number: Fraction) -> Polynomial:
        """Of a positive rational; a product of large primes counts as one."""
        result: Polynomial = {}
        for sign, part in ((1, number.numerator), (-1, number.denominator)):
            for prime, count in normal.factors(part).items():
                generator = self.generator("L", prime)
                self.logarithm_of[generator] = prime
                result = add(result, {((generator, 1),): Fraction(sign * count)})
        return result

    def log_of_positives(
        self, result: Polynomial, factors: terms.Key, sign: int
    ) -> tuple[Polynomial, terms.Key]:
        """Add the logarithms of the positive factors of a monomial; returns the others, too."""
        [(monomial, number)] = factors
        others = []
        for name, power in monomial:
            if self.is_positive(((name, power),)):
                result = add(result, self.log_of_generator(name, sign * power))
            else:
                others.append((name, power))
        return result, ((tuple(others), number),)

    def log_of_generator(self, name: str, power: int) -> Polynomial:
        """The logarithm of a power of a generator that is positive."""
        if name in self.exponent_of:
            return {self.exponent_of[name]: Fraction(power, WHOLE)}
        if name[0] == "r":
            logarithm = self.log_of_number(Fraction(int(name[1:])))
            return {monomial: n * power / WHOLE for monomial, n in logarithm.items()}
        if name not in ("_pi", "q_pi"):  # an even power of what is real
            square = self.log_generator(((((name, 2),), Fraction(1)),))
            return {monomial: n * power / 2 for monomial, n in square.items()}
        generator = self.generator("L", "_pi")
        self.logarithm_of[generator] = "_pi"
        return {((generator, 1),): Fraction(power, WHOLE if name[0] == "q" else 1)}

    def log_of_root(self, argument: terms.Key) -> Polynomial | None:
        """Of a root of a variable or a polynomial, if the argument is one."""
        [(monomial, _), *others] = argument
        if others or len(monomial) != 1 or not 0 < monomial[0][1] <= WHOLE:
            return None
        name, power = monomial[0]
        if name[0] == "q":
            inner: terms.Key = ((((name[1:], 1),), Fraction(1)),)
        elif name in self.root_of:
            inner = terms.key(self.root_of[name])
        else:
            return None
        logarithm, _ = self.log((dict(inner), ONE))
        return {m: n * power / WHOLE for m, n in logarithm.items()}

    def is_sum_of_positives(self, polynomial: Polynomial) -> bool:
        """Is every term positive, or zero?"""
        return all(number > 0 and self.is_positive(m) for m, number in polynomial.items())

    def is_positive(self, monomial: Monomial) -> bool:
        """Is it positive whatever the variables, where it is not zero?

        Roots of primes, pi, exp of what is real, and even powers of what is real.
        """
        return all(
            name in ("_pi", "q_pi")
            or (name[0] == "r" and name != "r-1")
            or (name in self.exponent_of and self.is_real(self.exponent_of[name]))
            or (name[0] in "_L" and power % 2 == 0 and self.is_real(((name, 1),)))
            for name, power in monomial
        )

    def is_real(self, monomial: Monomial) -> bool:
        """Is it real whatever the variables, which are real?"""
        return all(
            name[0] == "_" or self.is_logarithm_real(name) or self.is_positive(((name, power),))
            for name, power in monomial
        )

    def is_logarithm_real(self, name: str) -> bool:
        """Is a generator the logarithm of something positive?"""
        of = self.logarithm_of.get(name)
        if isinstance(of, dict):
            return self.is_sum_of_positives(of) or terms.key(of) in self.squares
        return isinstance(of, int) or of == "_pi"

    def conjugate(self, monomial: Monomial) -> tuple[int, Monomial]:
        """A sign, and the monomial with -i for i.

        Raises:
            NotAlgebraicError: It may have another conjugate.
        """
        sign, powers = 1, []
        for name, power in monomial:
            if name == "r-1":
                sign = -sign
            elif not self.is_real(((name, power),)):
                exponent = self.exponent_of.get(name)
                inner, turned = self.conjugate(exponent) if exponent else (0, None)
                if exponent is None or turned != exponent:
                    raise normal.NotAlgebraicError("its conjugate is not known")
                power *= inner
            powers.append((name, power))
        return sign, tuple(powers)

    def generator(self, kind: str, *meaning: object) -> str:
        """The name of a generator; the same meaning gets the same one."""
        return self.names.setdefault((kind, *meaning), f"{kind}{len(self.names)}")
