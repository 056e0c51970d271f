"""Grading raises nothing, whatever is under the root or below the bar."""

from __future__ import annotations

import random

import pytest

from turnhalle.envs.math import worker
from turnhalle.envs.math.grading import RULES, Verdict, judge

NOTHING = [
    "sin(pi)",
    "tan(pi)",
    "(sqrt(3+2sqrt(2))-1-sqrt(2))",
    "abs(sqrt(2)*sqrt(2)-2)",
    "cos(pi/2)",
]


@pytest.mark.parametrize("rule", ["algebraic", "symbolic"])
@pytest.mark.parametrize("exponent", ["-1/3", "-1/2", "-3", "-2/3"])
def test_a_negative_power_of_nothing_is_unreadable(exponent: str, rule: str) -> None:
    for nothing in NOTHING:
        assert judge(f"{nothing}^({exponent})", "5", RULES[rule]) is Verdict.UNREADABLE
        assert judge("5", f"{nothing}^({exponent})", RULES[rule]) is Verdict.UNREADABLE


@pytest.mark.parametrize("rule", ["algebraic", "symbolic"])
@pytest.mark.parametrize("tiny", ["10^90", "10^100", "10^200"])
def test_a_negative_power_of_something_tiny_is_a_number(tiny: str, rule: str) -> None:
    answer = f"(sqrt(1+sqrt(2))/{tiny})^(-3)"
    assert judge(answer, "5", RULES[rule]) in (Verdict.WRONG, Verdict.UNREADABLE)


def draw(rng: random.Random, depth: int) -> str:
    """A random expression that is often nothing, or a root of something negative."""
    if not depth or rng.random() < 0.15:
        return rng.choice(["0", "1", "2", "3", "10^100", "pi", "e", "x", *NOTHING])
    kind = rng.choice(("sqrt", "root", "power", "power", "call", "+", "-", "*", "/"))
    inner = draw(rng, depth - 1)
    if kind == "sqrt":
        return f"sqrt({inner})"
    if kind == "root":
        return f"\\sqrt[{rng.choice((3, 4, 5, -3))}]{{{inner}}}"
    if kind == "power":
        return f"({inner})^({rng.choice(('2', '-1', '1/2', '-1/2', '-1/3', '-3/2', '-3', '0'))})"
    if kind == "call":
        return f"{rng.choice(('sin', 'cos', 'tan', 'abs', 'ln', 'exp'))}({inner})"
    return f"({inner}){kind}({draw(rng, depth - 1)})"


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"text"}))
def test_no_power_of_a_root_raises(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "are_equal", lambda left, right: False)  # two seconds a question
    rng, verdicts = random.Random(5), set[Verdict]()
    for _ in range(500):
        action, gold = draw(rng, 4), draw(rng, 2)
        is_expression = RULES[rule].kind in ("algebraic", "symbolic")
        verdicts.add(judge(action, gold if is_expression else "5", RULES[rule]))
    assert len(verdicts) > 1
