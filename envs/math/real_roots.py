r"""Which root an odd root of a negative number is: the real one, so `\sqrt[3]{-8}` is -2.

Powers keep the principal branch, as everywhere: `(-8)^{1/3}` is 1 + sqrt(-3). So do roots of what
has variables or is not known to be real, for the rules of `functions` hold on that branch alone.
"""

from __future__ import annotations

from . import algebraic, numeric
from .grammar import GrammarError, Node, negated
from .rationals import evaluate


def with_real_roots(node: Node) -> Node:
    """The same tree with minus the root of 8 for an odd root of -8."""
    kind, *parts = node
    if kind in ("number", "name"):
        return node
    node = (kind, *[with_real_roots(part) if isinstance(part, tuple) else part for part in parts])
    if node[:2] == ("call", "root") and _is_odd(node[3]) and _is_negative(node[2]):
        return negated(("call", "root", negated(node[2]), node[3]))
    return node


def _is_odd(index: Node) -> bool:
    try:
        number = evaluate(index)
    except GrammarError:
        return False
    return number.denominator == 1 and number.numerator % 2 == 1


def _is_negative(radicand: Node) -> bool:
    """Is it certainly a negative number?"""
    if numeric.variables(radicand):
        return False
    try:
        value, error = numeric.evaluate(radicand, {})
        if not isinstance(value, complex) and abs(value) > 2 * error:
            return value < 0
    except (ArithmeticError, ValueError):  # beyond what a float holds
        pass
    try:
        return algebraic.sign(radicand) < 0
    except GrammarError:
        return False
