"""Differences of expressions that have normal forms, as trees again: what is left to be looked at.

What two expressions have in common is gone from their difference, so its value tells them apart
where theirs do not: `exp(300) + 1` and `exp(300)` are one number in floating point.
"""

from __future__ import annotations

from fractions import Fraction

from . import algebraic, terms
from .functions import FunctionNormalizer
from .grammar import GrammarError, Node
from .normal import WHOLE, Monomial

Term = list[Node]
"""Factors of a term, the first a number."""
ZERO: Node = ("number", Fraction(0))
MAX_FACTORS = 2000
"""Of all terms, nested ones too."""


def difference(left: Node, right: Node) -> list[Term] | None:
    """The terms of the numerator of the difference, none where it is zero; None: not known."""
    normalizer = FunctionNormalizer()
    try:
        (a, b), (c, d) = normalizer.normal_form(left), normalizer.normal_form(right)
        above = terms.difference(normalizer.multiply(a, d), normalizer.multiply(b, c))
        return _Trees(normalizer).sum_of(terms.key(above))
    except GrammarError:
        return None


def vanishes(difference: list[Term]) -> bool:
    """Is it zero because the numbers that stand by each product of other factors add up to it?

    The numbers are roots of numbers, nested or not; `algebraic` knows when they do.
    """
    numbers: dict[tuple[Node, ...], list[Node]] = {}
    for term in difference:
        others = tuple(factor for factor in term if not _is_number(factor))
        number = _product([factor for factor in term if _is_number(factor)])
        numbers.setdefault(others, []).append(number)
    try:
        return all(algebraic.are_equal(_sum(found), ZERO) for found in numbers.values())
    except GrammarError:
        return False


def exists(tree: Node) -> bool:
    """Has it certainly a value wherever its variables have: no divisors, no logarithms?"""
    kind, *parts = tree
    if kind in ("number", "name"):
        return True
    if kind == "call":
        return parts[0] in ("exp", "sin", "cos", "abs", "sqrt") and exists(parts[1])
    if kind in "/^" and parts[1][0] == "number":
        return exists(parts[0]) and parts[1][1] > 0
    is_safe = kind in "+*" or (kind == "^" and parts[0] == ("name", "e"))
    return is_safe and all(map(exists, parts))


def _is_number(tree: Node) -> bool:
    """Is it made of numbers and roots alone?"""
    if tree[0] == "number":
        return True
    return tree[0] in ("+", "*", "/", "^") and _is_number(tree[1]) and _is_number(tree[2])


class _Trees:
    """What the generators of a normalizer mean."""

    def __init__(self, normalizer: FunctionNormalizer) -> None:
        self.normalizer = normalizer
        self.meaning = {name: meaning for meaning, name in normalizer.names.items()}
        self.factors = 0

    def sum_of(self, polynomial: terms.Key) -> list[Term]:
        self.factors += sum(1 + len(monomial) for monomial, _ in polynomial)
        if self.factors > MAX_FACTORS:
            raise GrammarError("the difference is too large to be looked at")
        return [
            [("number", number), *(self.generator(name, power) for name, power in monomial)]
            for monomial, number in polynomial
        ]

    def polynomial(self, polynomial: terms.Key) -> Node:
        return _sum([_product(term) for term in self.sum_of(polynomial)])

    def generator(self, name: str, power: int) -> Node:
        if name[0] == "_":
            return ("^", ("name", name[1:]), ("number", Fraction(power)))
        part: Node = ("number", Fraction(power, WHOLE))
        if name[0] == "q":
            return ("^", ("name", name[2:]), part)
        if name[0] == "r":
            return ("^", ("number", Fraction(int(name[1:]))), part)
        kind, *meaning = self.meaning[name]
        if name in self.normalizer.root_of:
            return ("^", self.polynomial(terms.key(self.normalizer.root_of[name])), part)
        if name in self.normalizer.exponent_of:
            exponent = self.monomial(self.normalizer.exponent_of[name])
            return ("call", "exp", ("*", part, exponent))
        inner = self.argument(meaning)
        if kind == "E":
            return ("call", "exp", ("*", part, inner))
        call: Node = ("call", "log" if kind == "L" else "abs", inner)
        return ("^", call, ("number", Fraction(power)))

    def argument(self, meaning: list[object]) -> Node:
        """Of a function: a prime, pi, or a quotient."""
        if isinstance(meaning[0], int):
            return ("number", Fraction(meaning[0]))
        if isinstance(meaning[0], str):
            return ("name", meaning[0][1:])
        above, below = (self.polynomial(part) for part in meaning)  # type: ignore[arg-type]
        return ("/", above, below)

    def monomial(self, monomial: Monomial) -> Node:
        return _product([("number", Fraction(1)), *(self.generator(n, p) for n, p in monomial)])


def _sum(nodes: list[Node]) -> Node:
    """As a tree that is not deep, however many they are."""
    if len(nodes) < 2:
        return nodes[0] if nodes else ZERO
    half = len(nodes) // 2
    return ("+", _sum(nodes[:half]), _sum(nodes[half:]))


def _product(factors: Term) -> Node:
    result, *others = factors
    for factor in others:
        result = ("*", result, factor)
    return result
