"""Grading: is an answer right, exactly? The rule of a task says what counts as an answer.

Numbers are compared as rationals (0.50 is 1/2; nothing is ever rounded). Expressions are compared
as functions: by normal form where there is one, else, where the rule is `symbolic`, by sympy in a
process that can be killed. Whatever an action holds, nothing is evaluated as code, nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from . import algebraic, normal, numeric, trees, worker
from .answers import MAX_LENGTH, extract, parse_number
from .forms import is_collected
from .grammar import GrammarError, Node, parse
from .real_roots import with_real_roots

_DOLLARS = re.compile(r"\$(?P<a>[^$]*)\$|\\\((?P<b>.*)\\\)", re.DOTALL)
_LATEX_FRACTION = re.compile(
    r"[+-]?\\[dt]?frac\{[+-]?(?P<above>\d+)\}\{[+-]?(?P<below>\d+)\}", re.ASCII
)
_INTEGER = re.compile(r"-?\d{1,300}", re.ASCII)
_BELOW = re.compile(r"(?:/|\}\{[+-]?)(\d+)", re.ASCII)


class Verdict(StrEnum):
    """What grading found."""

    RIGHT = "right"
    WRONG = "wrong"
    TOO_HIGH = "too high"
    TOO_LOW = "too low"
    UNREADABLE = "unreadable"
    """No answer of the kind that the task asks for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as an answer to a task."""

    kind: Literal["integer", "number", "list", "algebraic", "symbolic", "text"]
    """`integer`: a number without a fraction bar. `number`: a fraction, too. `list`: numbers with
    commas between, in order. `algebraic`: an expression that has a normal form. `symbolic`: any
    expression of the grammar (needs sympy). `text`: these characters and no others."""
    is_lowest: bool = False
    """Must a fraction be in lowest terms, an expression multiplied out and collected? Where the
    question is itself an expression, to copy it would be an answer otherwise."""
    tolerance: Fraction = Fraction(0)
    """How far a number may be off; only where the task's question says so."""
    has_dollars: bool = False
    """May `$` stand before the number?"""
    has_percent: bool = False
    """Is the answer a number of percent, so that `%` may stand behind it?"""
    units: tuple[str, ...] = ()
    """Units that may stand behind the number; no other word may."""


RULES = {
    "integer": Rule("integer"),
    "number": Rule("number"),
    "lowest": Rule("number", is_lowest=True),
    "money": Rule("integer", has_dollars=True),
    "percent": Rule("number", is_lowest=True, has_percent=True),
    "list": Rule("list"),
    "text": Rule("text"),
    "expanded": Rule("algebraic", is_lowest=True),
    "algebraic": Rule("algebraic"),
    "symbolic": Rule("symbolic"),
}
"""The rules that tasks name."""


def is_right(action: str, gold: str, rule: Rule) -> bool:
    """Does the action's answer equal the gold answer?"""
    return judge(action, gold, rule) is Verdict.RIGHT


def judge(action: str, gold: str, rule: Rule) -> Verdict:
    """Extract the answer of an action and compare it with the gold answer.

    Raises:
        ConfigError: The rule is `symbolic` and sympy is missing.
        ValueError: The rule is of numbers and the gold answer is none (see `is_gold`).
    """
    given = extract(action)
    if given == gold:
        return Verdict.RIGHT
    if rule.kind == "text":
        return Verdict.WRONG
    if len(given) > MAX_LENGTH:
        return Verdict.UNREADABLE
    if rule.kind in ("integer", "number"):
        return _judge_number(given, gold, rule)
    if rule.kind == "list":
        return _judge_list(_without_delimiters(given), gold)
    return _judge_expression(given, gold, rule)


def is_gold(text: str, rule: Rule) -> bool:
    """Can `text` be the gold answer of a task under a rule?"""
    if rule.kind == "text":
        return bool(text)
    if rule.kind in ("integer", "number"):
        return read_number(text, rule) is not None
    if rule.kind == "list":
        return None not in _numbers(text)
    try:
        node = _read_expression(text)
        return rule.kind == "symbolic" or _are_equal_algebraic(node, node)
    except GrammarError:
        return False


def read_number(text: str, rule: Rule) -> Fraction | None:
    """The number that an answer is under a rule; None where it is none."""
    number = parse_number(text)
    if number is None:
        text = _bare(text, rule)
        number = _parse_latex(text) if "frac" in text else parse_number(text)
    below = _BELOW.search(text)
    if number is None or below is None:
        return number
    is_lowest = int(below[1]) == number.denominator
    return None if rule.kind == "integer" or (rule.is_lowest and not is_lowest) else number


def _judge_number(given: str, gold: str, rule: Rule) -> Verdict:
    number = _read_fast(given, rule)
    if number is None:
        return Verdict.UNREADABLE
    wanted = _gold_number(gold, rule)
    if number == wanted:
        return Verdict.RIGHT
    if rule.tolerance and abs(Fraction(number) - wanted) <= rule.tolerance:
        return Verdict.RIGHT
    is_high = number.numerator * wanted.denominator > wanted.numerator * number.denominator
    return Verdict.TOO_HIGH if is_high else Verdict.TOO_LOW


@lru_cache(maxsize=4096)
def _gold_number(gold: str, rule: Rule) -> int | Fraction:
    number = _read_fast(gold, rule)
    if number is None:
        raise ValueError(f"the gold answer {gold!r} is none under {rule}")
    return number


def _read_fast(text: str, rule: Rule) -> int | Fraction | None:
    """Most answers are integers, and `int` takes a third of the time of `Fraction`."""
    return int(text) if _INTEGER.fullmatch(text) else read_number(text, rule)


def _bare(text: str, rule: Rule) -> str:
    r"""Without what the rule permits around a number: `$`, `%`, a unit, LaTeX's `$...$`."""
    text = _without_delimiters(text)
    if rule.has_dollars:
        sign = "-" if text.startswith("-") else ""
        text = sign + text.removeprefix("-").removeprefix("\\").removeprefix("$").lstrip()
    if rule.has_percent:
        text = text.removesuffix("%").removesuffix("\\").rstrip()
    for unit in rule.units:
        if text.endswith(unit) and not text[: -len(unit)][-1:].isalpha():
            return text.removesuffix(unit).rstrip()
    return text


def _without_delimiters(text: str) -> str:
    match = _DOLLARS.fullmatch(text)
    return str(match[match.lastgroup or 0]).strip() if match else text


def _parse_latex(text: str) -> Fraction | None:
    match = _LATEX_FRACTION.fullmatch(text)
    if match is None:
        return None
    sign = "-" * (text.count("-") % 2)  # before the fraction, above and below
    return parse_number(f"{sign}{match['above']}/{match['below']}")


def _judge_list(given: str, gold: str) -> Verdict:
    numbers = _numbers(given)
    if None in numbers:
        return Verdict.UNREADABLE
    return Verdict.RIGHT if numbers == _numbers(gold) else Verdict.WRONG


def _numbers(text: str) -> list[Fraction | None]:
    """Numbers in order; here a comma parts them, so 1,000 is two of them."""
    if text[:1] == "(" and text[-1:] == ")":
        text = text[1:-1]
    return [parse_number(part.strip()) for part in text.split(",")]


@lru_cache(maxsize=4096)  # the rollouts of a group often agree
def _judge_expression(given: str, gold: str, rule: Rule) -> Verdict:
    try:
        left, right = _read_expression(given), _read_expression(gold)
        if rule.is_lowest and not is_collected(left):
            return Verdict.UNREADABLE
        try:
            is_equal = _are_equal_algebraic(left, right)
        except normal.NotAlgebraicError:
            if rule.kind != "symbolic":
                raise
            is_equal = _are_equal_functions(left, right)
    except GrammarError:
        return Verdict.UNREADABLE
    return Verdict.RIGHT if is_equal else Verdict.WRONG


def _read_expression(text: str) -> Node:
    return with_real_roots(parse(_without_delimiters(text)))


def _are_equal_algebraic(left: Node, right: Node) -> bool:
    """By their normal forms, or as real numbers."""
    try:
        return normal.are_equal(left, right)
    except normal.NotAlgebraicError:
        return algebraic.are_equal(left, right)


def _are_equal_functions(left: Node, right: Node) -> bool:
    """Told apart by values, proved by the rules of `functions`, or decided by sympy."""
    said = numeric.compare(left, right)
    if said is numeric.Comparison.DIFFERENT:
        return False
    difference = trees.difference(left, right)
    if difference is not None:
        if difference and numeric.is_not_zero(difference):
            return False
        has_values = said is numeric.Comparison.ALIKE or (
            trees.exists(left) and trees.exists(right)
        )
        if has_values and trees.vanishes(difference):
            return True
    return worker.are_equal(left, right)
