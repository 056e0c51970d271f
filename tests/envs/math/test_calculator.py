"""The calculator is exact, bounded, and answers nonsense with a useful error."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.core import StepInfo
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.math.grammar import GrammarError, parse
from turnhalle.envs.math.rationals import calculate, evaluate
from turnhalle.envs.tools.formats import render_call, to_canonical

from .test_grading import ATTACKS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14),
        ("(2+3)*4", 20),
        ("7/2", Fraction(7, 2)),
        ("-2^2", -4),
        ("2^3^2", 512),
        ("0.1+0.2", Fraction(3, 10)),
        ("gcd(48,360)", 24),
        ("lcm(4,6)", 12),
        ("mod(-1,7)", 6),
        ("floor(-7/2)", -4),
        ("abs(-3)", 3),
        ("sqrt(9/4)", Fraction(3, 2)),
        ("--1", 1),
    ],
)
def test_values_are_exact(text: str, value: Fraction) -> None:
    assert calculate(text) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1/0", "division by zero"),
        ("mod(1,0)", "division by zero"),
        ("9^9^9", "exponents are integers of at most"),
        ("(9^900)^900", "too large"),
        ("2^(1/2)", "exponents are integers"),
        ("sqrt(2)", "not rational"),
        ("gcd(1/2,1)", "gcd takes integers"),
        ("gcd(1)", "takes 2 arguments, got 1"),
        ("x+1", "unknown name 'x'"),
        ("sin(1)", "unknown name 'sin'"),
        ("1,000+1", "expected the end"),
        ("", "expected a number"),
        ("2+", "expected a number"),
        ("2 3", "expected the end"),
        ("import os", "unknown name"),
        ("0^0", "power of 0"),
        ("9^999*7^999*5^999*11^999", "too large"),
    ],
)
def test_errors_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(GrammarError, match=says.replace("^", r"\^")):
        calculate(text)


@given(st.integers(-999, 999), st.integers(-999, 999), st.integers(1, 99))
def test_it_agrees_with_python(a: int, b: int, c: int) -> None:
    assert calculate(f"({a})*({b})-{c}/({c}+1)") == a * b - Fraction(c, c + 1)


WHOLE = st.integers(0, 30).map(str) | st.integers(-30, 30).map("({})".format)


@given(st.sampled_from(["", "-"]), WHOLE, st.lists(st.tuples(st.sampled_from("+-*/"), WHOLE)))
def test_the_short_way_and_the_long_one_agree(
    sign: str, first: str, others: list[tuple[str, str]]
) -> None:
    def outcome(find: Callable[[], object]) -> object:
        try:
            return find()
        except GrammarError as error:
            return str(error)

    text = sign + first + "".join(a + b for a, b in others)
    long = outcome(lambda: evaluate(parse(text, is_for_calculator=True)))
    assert outcome(lambda: calculate(text)) == long
    if "(" not in first and others and "(" not in others[0][1]:
        for name in ("gcd", "lcm", "mod"):
            text = f"{name}({first},{others[0][1]})"
            long = outcome(lambda text=text: evaluate(parse(text, is_for_calculator=True)))
            assert outcome(lambda text=text: calculate(text)) == long


def use(action: str, **options: Any) -> tuple[str, StepInfo]:
    """What the environment answers to an action in mode `calculator`."""
    env = th.make("mathproblems", mode="calculator", **options)
    env.reset(seed=1)
    text, _, ended, _, info = env.step(action)
    assert not ended
    return text, info


def test_attacks_are_answered_in_time() -> None:
    for attack in ATTACKS:
        started = time.process_time()
        said, _ = use(render_call("calculate", expression=attack))
        assert time.process_time() - started < 1, attack
        assert said.isascii()
        assert len(said) < 4000


CALCULATOR = th.make("mathproblems", mode="calculator").tools()


@pytest.mark.parametrize(
    ("action", "says", "kind"),
    [
        (render_call("calculate", expression="37*12"), "444", None),
        (render_call("calculate", expression=7), "7", None),
        (render_call("calculate", expression=0.5), "1/2", None),
        (render_call("calculate", expression=True), "error: calculate: expression", "wrong_type"),
        (render_call("calculate"), "error: calculate: expression is mis", "missing_argument"),
        (render_call("calculate", expression="1", extra="2"), "error: calcu", "extra_argument"),
        (render_call("calculat", expression="1"), "error: no tool 'calculat'; did", "unknown_tool"),
        ("<tool_call>{", "error: the tool call is no JSON", "bad_json"),
        ("<tool_call>[]</tool_call>", "error: a tool call is", "bad_shape"),
        (render_call("calculate", expression="1/0"), "error: division by zero", "refused"),
        (to_canonical("calculate 37*12", "compact", CALCULATOR), "444", None),
        (to_canonical('calculate "1 + 1"', "compact", CALCULATOR), "2", None),
        (to_canonical("calculate 12", "compact", CALCULATOR), "12", None),
    ],
)
def test_what_comes_back_is_a_result_or_a_useful_error(
    action: str, says: str, kind: str | None
) -> None:
    text, info = use(action)
    assert text.startswith(says)
    assert info["messages"][0].role == "tool"
    assert info.get("faults") == ({kind: 1} if kind else None)


def test_calls_of_a_turn_are_bounded() -> None:
    text, info = use(render_call("calculate", expression="1") * 1000)
    assert len(info["messages"]) == 17
    assert text.endswith("only 16 calls a turn; 984 were not run")
    assert info["faults"] == {"too_many_calls": 1}


def test_malformed_calls_cost_what_is_declared_and_calls_may_be_budgeted() -> None:
    _, info = use("<tool_call>{", fault_cost=0.1)
    assert info["parts"] == {"task": 0.0, "tools/bad_json": -0.1}
    _, info = use(render_call("calculate", expression="1") * 3, max_calls=2)
    assert info["faults"] == {"over_budget": 1}
    for mode in ("single", "attempts"):
        with pytest.raises(ConfigError, match="has no tools"):
            th.make("mathproblems", mode=mode, fault_cost=0.1)
