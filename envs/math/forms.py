"""Is an expression multiplied out, with like terms collected and roots simplified?"""

from __future__ import annotations

from fractions import Fraction

from .grammar import Node
from .normal import MAX_RADICAND, Monomial, Normalizer, square_free


def is_collected(node: Node) -> bool:
    """Is it a sum of different monomials, each variable once and one square-free root in each?

    Raises:
        GrammarError: It divides by zero or is too large.
    """
    normalizer, seen = Normalizer(), set[Monomial]()
    for term in _terms(node):
        once = [part[1] for part in _factors(term) if part[0] in ("name", "call")]
        if not _is_product(term) or len(once) != len(set(once)):
            return False
        above, _ = normalizer.normal_form(term)
        if len(above) != 1 or next(iter(above)) in seen:
            return False
        seen.update(above)
    return True


def _terms(node: Node) -> list[Node]:
    if node[0] == "+":
        return _terms(node[1]) + _terms(node[2])
    return [node]


def _factors(node: Node) -> list[Node]:
    if node[0] in ("*", "^"):
        return _factors(node[1]) + _factors(node[2])
    return _factors(node[1]) if node[0] == "/" else [node]


def _is_product(node: Node) -> bool:
    """Numbers, variables, powers of variables, roots of square-free integers: no sum inside."""
    kind = node[0]
    if kind in ("number", "name"):
        return True
    if kind == "*":
        return _is_product(node[1]) and _is_product(node[2])
    if kind == "/":
        return _is_product(node[1]) and node[2][0] == "number"
    if kind == "^":
        return (node[1][0], node[2][0]) == ("name", "number")
    if kind == "call" and node[1] == "sqrt" and node[2][0] == "number":
        radicand: Fraction = node[2][1]
        if radicand.denominator != 1 or not 1 < radicand <= MAX_RADICAND:
            return False
        return square_free(radicand.numerator) == 1
    return False
