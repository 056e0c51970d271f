"""What is refuted differs, what is proved is equal, and both need no process."""

from __future__ import annotations

import itertools
import operator
import random
import time
from collections import defaultdict
from typing import Any

import mpmath
import pytest

from turnhalle.envs.math import numeric, trees, worker
from turnhalle.envs.math.grading import RULES, Verdict, judge
from turnhalle.envs.math.grammar import GrammarError, Node, parse

SYMBOLIC = RULES["symbolic"]
EQUAL = [
    ("sin(5x)^2+cos(5x)^2+5", "6"),
    ("\\sin(2x)", "2\\sin(x)\\cos(x)"),
    ("cos(2x)", "1-2sin(x)^2"),
    ("tan(x)", "sin(x)/cos(x)"),
    ("sin(x+pi)", "-sin(x)"),
    ("cos(x)+cos(2x)+cos(3x)", "sin(7x/2)/(2sin(x/2))-1/2"),
    ("sin(pi/6)", "1/2"),
    ("cos(pi/12)", "(sqrt(6)+sqrt(2))/4"),
    ("e^(i*pi)", "-1"),
    ("(-8)^(1/3)", "1+sqrt(3)i"),
    ("log(6)", "log(2)+log(3)"),
    ("ln(50)", "ln(2)+2ln(5)"),
    ("ln(8)/ln(2)", "3"),
    ("log(1/2)", "-log(2)"),
    ("log(-1)", "pi*i"),
    ("log(sqrt(2))", "log(2)/2"),
    ("ln(x/2)", "ln(x)-ln(2)"),
    ("log(e^(2x))", "2x"),
    ("exp(x)*exp(y)", "exp(x+y)"),
    ("exp(x+100)", "e^100*exp(x)"),
    ("1/(1+e^(-x))", "e^x/(1+e^x)"),
    ("(e^x)^(1/2)", "e^(x/2)"),
    ("e^(x ln(x))", "x^x"),
    ("2^(n+1)", "2*2^n"),
    ("4^x", "2^(2x)"),
    ("x^n*x", "x^(n+1)"),
    ("\\sqrt[3]{16}", "2\\sqrt[3]{2}"),
    ("1/2^(1/3)", "2^(2/3)/2"),
    ("2^(1/2)*3^(1/3)", "72^(1/6)"),
    ("sqrt(pi)^2", "pi"),
    ("x^(3/2)", "x*sqrt(x)"),
    ("1/sqrt(x)", "sqrt(x)/x"),
    ("sqrt(4x)", "2sqrt(x)"),
    ("sqrt(x^2+1)^3", "(x^2+1)*sqrt(x^2+1)"),
    ("1/sqrt(x+1)", "sqrt(x+1)/(x+1)"),
    ("abs(-2x)", "2abs(x)"),
    ("sqrt(x^2)", "abs(x)"),
    ("sqrt((x+3)^2)", "abs(x+3)"),
    ("sqrt(x^2+2x+1)", "abs(-x-1)"),
    ("sqrt(x^2*y)", "abs(x)*sqrt(y)"),
    ("sqrt(x^2/y^2)", "abs(x/y)"),
    ("sqrt(x^4)", "x^2"),
    ("abs(x*y)", "abs(x)*abs(y)"),
    ("abs(x)^3", "x^2*abs(x)"),
    ("abs(x^2+1)", "x^2+1"),
    ("abs(sin(x))^2", "1-cos(x)^2"),
    ("abs(exp(i*x))", "1"),
    ("abs(3+4i)", "5"),
    ("abs(x+i*y)", "sqrt(x^2+y^2)"),
    ("abs(exp(x))", "exp(x)"),
    ("log(x^2)", "2log(abs(x))"),
    ("log(sqrt(x))", "log(x)/2"),
    ("log(sqrt(x+1))", "log(x+1)/2"),
    ("i^i", "e^(-pi/2)"),
    ("exp(x+900)", "e^900*exp(x)"),  # beyond what a float holds
    ("sqrt(x^4+2x^2+1)", "x^2+1"),
    ("sqrt((x^2+y^2+3)^2)", "x^2+y^2+3"),
    ("sqrt(exp(2x)+2exp(x)+1)", "exp(x)+1"),
    ("sqrt(3+2sqrt(2))*x", "x+x*sqrt(2)"),
    ("sqrt(5+2sqrt(6))+pi", "sqrt(2)+sqrt(3)+pi"),
    ("sqrt(x)*sqrt(4-2sqrt(3))", "sqrt(3x)-sqrt(x)"),
    ("abs(x+1)+abs(x-1)", "abs(abs(x+1)+abs(x-1))"),
    ("exp(abs(x))^2", "exp(2abs(x))"),
]
DIFFERENT = [
    ("sin(x)", "x"),
    ("(-8)^(1/3)", "-2"),
    ("log(6)", "log(2)*log(3)"),
    ("sqrt(x+1)", "sqrt(x)+1"),
    ("exp(x+1)", "exp(x)+1"),
    ("sin(1)", "0.841470984807"),
    ("sqrt(3+2*sqrt(2))", "2.41421356237"),
    ("tan(x)^2", "1/cos(x)^2"),
    ("sqrt(x^2)", "x"),
    ("sqrt((x+3)^2)", "x+3"),
    ("sqrt((x-99)^2)", "99-x"),
    ("log(x^2)", "2log(x)"),
    ("ln(xy)", "ln(x)+ln(y)"),
    ("sqrt(x)*sqrt(y)", "sqrt(xy)"),
    ("sqrt(x)/sqrt(y)", "sqrt(x/y)"),
    ("\\sqrt[3]{x^3}", "x"),
    ("abs(x)", "x"),
    ("exp(-1000)", "0"),
    ("exp(1000)", "exp(1000)+1"),
    ("exp(x+300)", "e^300*exp(x)+1"),
    ("log(2)^400", "log(2)^401"),
    ("x^100", "x^100+10^(-30)*sin(x)"),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_identities_are_proved_without_a_process(left: str, right: str) -> None:
    worker.close()
    assert judge(left, right, SYMBOLIC) is Verdict.RIGHT
    assert worker.process_id() is None


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_differences_are_seen_without_a_process(left: str, right: str) -> None:
    worker.close()
    assert judge(left, right, SYMBOLIC) is Verdict.WRONG
    assert worker.process_id() is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("log(x^2)", "2log(x)"),
        ("sqrt(x^2)", "x"),
        ("sqrt(x*y)", "sqrt(x)*sqrt(y)"),
        ("log(x*y)", "log(x)+log(y)"),
        ("(x^2)^(1/3)", "x^(2/3)"),
        ("log(exp(i*x))", "i*x"),
        ("exp(x/2)", "sqrt(exp(x+i*0.0000001))"),
        ("abs(x)", "x"),
        ("sqrt(1/x)", "1/sqrt(x)"),
    ],
)
def test_what_holds_for_positive_numbers_only_is_not_proved(left: str, right: str) -> None:
    assert trees.difference(parse(left), parse(right)) != []


@pytest.mark.parametrize(
    "text",
    ["1/(sin(x)^2+cos(x)^2-1)", "log(0)", "0^0", "tan(pi/2)", "9^999", "(x-x)^-1", "sqrt(0)"],
)
def test_no_value_is_made_up_where_there_may_be_none(text: str) -> None:
    node = parse(text)
    with pytest.raises(ArithmeticError):
        numeric.evaluate(node, {"x": 3 / 7})
    assert numeric.compare(node, parse("1")) is numeric.Comparison.UNKNOWN


LEAVES = ("x", "y", "2", "3", "1/2", "-1", "-2", "pi", "i", "e", "x^2", "8", "1/3", "6")
EXPONENTS = ("1/2", "1/3", "3/2", "2", "-1", "-1/2", "2/3", "x", "4/3")
OPERATIONS = {
    "+": operator.add, "*": operator.mul, "/": operator.truediv, "^": mpmath.power,
}  # fmt: skip
AT = {"x": 3 / 7, "y": 5 / 11}


def draw(rng: random.Random, depth: int) -> str:
    """A random expression that likes branch cuts."""
    if not depth or rng.random() < 0.15:
        return rng.choice(LEAVES)
    inner = draw(rng, depth - 1)
    kind = rng.choice(("sqrt", "sqrt", "log", "exp", "wave", "power", "+", "-", "*", "/", "^", "*"))
    if kind == "wave":
        kind = rng.choice(("sin", "cos", "tan", "abs"))
    if kind == "power":
        return f"({inner})^({rng.choice(EXPONENTS)})"
    return f"{kind}({inner})" if len(kind) > 1 else f"({inner}){kind}({draw(rng, depth - 1)})"


def exact(node: Node, at: dict[str, Any]) -> Any:
    """The value to fifty digits, by mpmath; ValueError where rounding could jump a branch cut."""
    kind = node[0]
    if kind == "number":
        return mpmath.mpf(node[1].numerator) / node[1].denominator
    if kind == "name":
        constants = {"pi": +mpmath.pi, "e": +mpmath.e, "i": mpmath.mpc(0, 1)}
        return constants[node[1]] if node[1] in constants else mpmath.mpf(at[node[1]])
    parts = [exact(part, at) for part in node[1:] if isinstance(part, tuple)]
    first = mpmath.mpc(parts[0])
    if kind in ("call", "^") and first.real <= 0 and 0 < abs(first.imag) < 1e-35:
        raise ValueError("too near to the cut")
    if kind == "call":
        return abs(parts[0]) if node[1] == "abs" else getattr(mpmath, node[1])(*parts)
    return OPERATIONS[kind](*parts)


def _samples(count: int) -> list[tuple[Node, numeric.Value]]:
    rng, found = random.Random(7), []
    for _ in range(count):
        try:
            node = parse(draw(rng, 3))
            found.append((node, numeric.evaluate(node, AT)))
        except (GrammarError, ArithmeticError, ValueError):
            continue
    return found


def test_values_are_as_near_to_the_true_ones_as_their_bounds_say() -> None:
    with mpmath.workdps(50):
        at = {"x": mpmath.mpf(3) / 7, "y": mpmath.mpf(5) / 11}
        checked = 0
        for node, (value, error) in _samples(4000):
            try:
                true = exact(node, at)
            except (ArithmeticError, ValueError):
                continue
            assert abs(true - value) <= error, node
            checked += 1
        assert checked > 2000


def test_what_is_proved_holds_for_negative_numbers_too_and_what_is_refuted_does_not() -> None:
    groups = defaultdict(list)
    for node, (value, error) in _samples(6000):
        if error < 1e-9 * max(1, abs(value)) and abs(value) < 1e9:
            groups[complex(round(complex(value).real, 8), round(complex(value).imag, 8))].append(
                node
            )
    proved = refuted = unseen = 0
    with mpmath.workdps(50):
        for nodes in groups.values():
            for left, right in itertools.combinations(list(dict.fromkeys(nodes))[:6], 2):
                difference = trees.difference(left, right)
                if difference is None:
                    continue
                if trees.vanishes(difference):
                    assert all(_agreement(left, right, least=1)), (left, right)
                    proved += 1
                elif numeric.is_not_zero(difference):
                    found = _agreement(left, right, least=0)
                    refuted += len(found) == 4
                    unseen += len(found) == 4 and all(found)
    assert proved > 100
    assert refuted > 10
    # The tangent of a number far up the imaginary axis is i, but for digits beyond the fiftieth.
    assert unseen <= 2


def _agreement(left: Node, right: Node, least: int) -> list[bool]:
    """Whether they are equal, at each of four points where that can be seen."""
    found = []
    for x, y in ((-1.3, 2.1), (-0.4, -0.7), (2.2, -3.1), (0.9, 1.7)):
        try:
            a, b = exact(left, {"x": x, "y": y}), exact(right, {"x": x, "y": y})
        except (ArithmeticError, ValueError):
            continue
        found.append(bool(abs(a - b) <= mpmath.mpf(10) ** -30 * max(least, abs(a))))
    return found


@pytest.mark.parametrize(
    "text", ["1/x", "log(x)", "x^-1", "x^y", "tan(x)", "e/(x-x)", "2/0", "1/e", "0^0", "sqrt(1/x)"]
)
def test_what_may_have_no_value_is_not_said_to_have_one(text: str) -> None:
    assert not trees.exists(parse(text))
    assert trees.exists(parse("e^(2x)/3+sqrt(x)^3*abs(y)-sin(pi*x)^2"))


def test_what_is_not_zero_is_not_zero() -> None:
    """Expressions and the same with a little more, which no float could show."""
    refuted = 0
    for node, _ in _samples(600):
        more = parse("x^2*10^(-40)+10^(-50)")
        difference = trees.difference(("+", node, more), node)
        if difference is not None:
            assert not trees.vanishes(difference)
            refuted += numeric.is_not_zero(difference)
    assert refuted > 300


@pytest.mark.parametrize(
    "text",
    [
        "(((abs(sin(x+y+3)))^(((2)^2)^9))*(cos((pi^2)^9))^9)^2",
        "sqrt(abs(sin(exp(x))+x+y+1+pi+\\sqrt[5]{3})^9)",
        "((sqrt((x+y+1)^9/(sqrt(x*(x+1))+\\sqrt[5]{x}+z^9)))^2)/sqrt((exp(abs(x+y+1))+i+pi+z+x)^9)",
        "abs(2+(e/(x+1))^2+(pi+x)^9*abs(3(x+y+1)))",
        "(e*(sin(((x+y+1)^2)^9)+(sin(x^9))^2))^9",
        "((x+1)*cos(exp(x+y+1))^((x+y+1)^7*sin(x+1)))^((21^2)^2)",
        "exp((x+y+z+1)^9)*sin((x+y+z+1)^9)",  # whose difference from nothing has many terms
        "abs(x+y+z+1)^9+sqrt(x+y+z)^59",
    ],
)
def test_no_function_takes_long_or_nests_too_deeply(text: str) -> None:
    node = parse(text)
    for other in (parse("x"), node, ("+", node, parse("x"))):
        started = time.process_time()
        difference = trees.difference(node, other)
        if difference:
            numeric.is_not_zero(difference)
            trees.vanishes(difference)
        assert time.process_time() - started < 1
