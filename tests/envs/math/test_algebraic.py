"""Nested roots and cosines are equal or not, exactly, and in time."""

from __future__ import annotations

import random
import time

import mpmath
import pytest

from turnhalle.envs.math import algebraic, worker
from turnhalle.envs.math.grading import RULES, Verdict, judge
from turnhalle.envs.math.grammar import GrammarError, parse
from turnhalle.envs.math.normal import NotAlgebraicError

from .test_functions import exact

EQUAL = [
    ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"),
    ("sqrt(4-2sqrt(3))", "sqrt(3)-1"),
    ("sqrt(2+sqrt(3))", "(sqrt(6)+sqrt(2))/2"),
    ("\\sqrt{11+6\\sqrt{2}}+\\sqrt{11-6\\sqrt{2}}", "6"),
    ("\\sqrt[3]{7+5\\sqrt{2}}", "1+\\sqrt{2}"),
    ("\\sqrt[3]{2+\\sqrt{5}}-\\sqrt[3]{\\sqrt{5}-2}", "1"),
    ("sqrt(2)+sqrt(3)+sqrt(5)", "sqrt(10+2sqrt(6)+2sqrt(10)+2sqrt(15))"),
    ("9^(1/11)", "3^(2/11)"),
    ("8^(-2/3)", "1/4"),
    ("sqrt(1000003)*sqrt(1000003)", "1000003"),
    ("cos(pi/5)", "(1+sqrt(5))/4"),
    ("sin(pi/10)", "(sqrt(5)-1)/4"),
    ("cos(pi/8)", "sqrt(2+sqrt(2))/2"),
    ("\\tan(\\frac{\\pi}{8})", "\\sqrt{2}-1"),
    ("sin(pi/5*2)^2", "(5+sqrt(5))/8"),
    ("cos(pi/7)-cos(2pi/7)+cos(3pi/7)", "1/2"),
    ("tan(3pi/11)+4sin(2pi/11)", "sqrt(11)"),
    ("sin(-pi/7)", "-sin(6pi/7)"),
    ("abs(1-sqrt(2))", "sqrt(2)-1"),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_numbers_are_proved_equal_without_a_process(left: str, right: str) -> None:
    worker.close()
    for rule in ("algebraic", "symbolic"):
        assert judge(left, right, RULES[rule]) is Verdict.RIGHT
        assert judge(left, f"{right}+10^(-40)", RULES[rule]) is Verdict.WRONG
    assert worker.process_id() is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("sqrt(10^12+1)", "10^6+1/(2*10^6)"),
        ("cos(pi/17)", "0.98297309968390177828194884485611998"),
        # The closest that sums of three roots of numbers to 100 come to each other, and farther.
        ("sqrt(29)+sqrt(66)+sqrt(89)", "sqrt(8)+sqrt(86)+sqrt(118)"),
        ("sqrt(10)+sqrt(11)", "sqrt(5)+sqrt(18)"),
    ],
)
def test_near_numbers_are_different(left: str, right: str) -> None:
    assert not algebraic.are_equal(parse(left), parse(right))


@pytest.mark.parametrize(
    "text",
    ["x", "sqrt(x)", "e", "pi", "i", "sqrt(-1)", "sqrt(1-sqrt(2))", "log(2)", "sin(1)", "2^sqrt(2)",
     "cos(pi/100000000000)", "cos(x*pi)", "\\sqrt[97]{2}", "sqrt(2)^0", "2^(1/1000)", "tan(pi/2)",
     "1/(sqrt(3+2sqrt(2))-1-sqrt(2))", "cos(pi/0)", "sqrt(sqrt(2)-\\sqrt[3]{3})"],
)  # fmt: skip
def test_what_is_none_of_these_numbers_is_refused(text: str) -> None:
    with pytest.raises(GrammarError):
        algebraic.are_equal(parse(text), parse("1"))


@pytest.mark.parametrize(
    "text",
    ["+".join(f"\\sqrt[12]{{{2**n}}}" for n in range(1, 45)), "sqrt(2+" * 9 + "2" + ")" * 9,
     "*".join(["(1+sqrt(2))"] * 60), "(3+sqrt(2))^900", "cos(pi/499)", "cos(pi/997)*10^1000",
     "+".join(f"sqrt({n})" for n in range(2, 90)), "\\sqrt[11]{2}^10*10^300",
     "+".join(f"cos({n}pi/61)" for n in range(1, 40)), "1/" * 90 + "(sqrt(2)+sqrt(3))"],
)  # fmt: skip
def test_no_number_takes_long(text: str) -> None:
    for gold in ("1", text):
        started = time.process_time()
        try:
            is_equal = algebraic.are_equal(parse(text), parse(gold))
        except NotAlgebraicError:
            is_equal = gold == text
        assert is_equal == (gold == text)
        assert time.process_time() - started < 1


def draw(rng: random.Random, depth: int) -> str:
    """A random number of this kind."""
    if not depth or rng.random() < 0.2:
        part = f"({rng.randint(-9, 9)}*pi/{rng.choice((3, 4, 5, 6, 8, 12))})"
        return rng.choice([str(rng.randint(1, 12)), f"cos{part}", f"sin{part}", f"tan{part}"])
    kind = rng.choice(("sqrt", "sqrt", "cube", "power", "abs", "+", "-", "*", "/"))
    inner = draw(rng, depth - 1)
    if kind == "cube":
        return f"\\sqrt[3]{{{inner}}}"
    if kind == "power":
        return f"({inner})^({rng.choice(('2', '-1', '1/2', '-3/2', '2/3'))})"
    return f"{kind}({inner})" if len(kind) > 1 else f"({inner}){kind}({draw(rng, depth - 1)})"


def test_equality_is_that_of_many_digits() -> None:
    rng, counts = random.Random(3), {True: 0, False: 0}
    with mpmath.workdps(220):
        for _ in range(500):
            a, b = draw(rng, 2), draw(rng, 1)
            for left, right in ((a, b), (f"({a}+{b})^2", f"({a})^2+2({a})({b})+({b})^2")):
                try:
                    ours = algebraic.are_equal(parse(left), parse(right))
                    gap = abs(exact(parse(left), {}) - exact(parse(right), {}))
                except (GrammarError, ArithmeticError, ValueError):
                    continue
                assert ours == (gap < mpmath.mpf(10) ** -25), (left, right)
                counts[ours] += 1
    assert min(counts.values()) > 100
