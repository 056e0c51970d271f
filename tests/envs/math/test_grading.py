"""Exact grading under the rule of the task, whatever is thrown at it."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnhalle.envs.math.grading import RULES, Rule, Verdict, is_right, judge

ALGEBRAIC = Rule("algebraic")


@given(st.integers(-(10**6), 10**6).filter(bool))  # 00 is 0
def test_no_mutation_of_the_gold_is_right(gold: int) -> None:
    text = str(gold)
    wrong = {
        str(gold + 1), str(gold - 1), str(-gold), text + "0", text + "1", "1" + text.lstrip("-"),
        text[:-1], "", f"{text} or {gold + 1}", f"{text} {text}", f"the answer is {text}",
        f"#### {gold + 1}", f"\\boxed{{{gold + 1}}}", f"#### {text}\n#### {gold + 1}", f"{text}!",
        f"\\boxed{{{text}, {gold + 1}}}", f"{text}%", f"{text} km", f"${text}", f"{text}/0",
    }  # fmt: skip
    rule = RULES["number"]
    assert is_right(text, text, rule)
    assert is_right(f"work #### {text}", text, rule)
    assert is_right(f"\\boxed{{{text}.0}}", text, rule)
    assert not [action for action in wrong - {text} if is_right(action, text, rule)]


@pytest.mark.parametrize(
    ("answer", "gold", "rule"),
    [
        ("$1,200.00", "1200", Rule("integer", has_dollars=True)),
        ("-$5", "-5", Rule("integer", has_dollars=True)),
        ("\\$5", "5", Rule("integer", has_dollars=True)),
        ("$5$", "5", Rule("integer")),
        ("25%", "25", Rule("number", has_percent=True)),
        ("25\\%", "25", Rule("number", has_percent=True)),
        ("12 km", "12", Rule("integer", units=("m", "km"))),
        ("12km", "12", Rule("integer", units=("km",))),
        ("\\frac{3}{6}", "1/2", Rule("number")),
        ("-\\dfrac{1}{2}", "-1/2", Rule("number", is_lowest=True)),
        ("$\\frac{1}{2}$", "1/2", Rule("number")),
        ("\\frac{-1}{2}", "-1/2", RULES["number"]),
        ("\\frac{1}{-2}", "-1/2", RULES["lowest"]),
        ("-\\tfrac{-1}{2}", "1/2", RULES["number"]),
        ("\\frac{-1}{2}\\%", "-1/2", RULES["percent"]),
        ("0.5", "1/2", Rule("number", is_lowest=True)),
        ("3.142", "3.1416", Rule("number", tolerance=Fraction(1, 1000))),
        ("(2,-3)", "2, -3", Rule("list")),
        ("2,-3.0", "2, -3", Rule("list")),
        ("\\left(x+1\\right)^2", "x^2+2x+1", ALGEBRAIC),
        ("\\frac{\\sqrt{8}}{2}", "\\sqrt{2}", ALGEBRAIC),
        ("2\\pi \\cdot r", "2 pi r", ALGEBRAIC),
        ("x**2 - 1", "x^2 - 1", RULES["expanded"]),
        ("(1+sqrt(2))/(1-sqrt(2))", "-3-2sqrt(2)", ALGEBRAIC),
        ("1/(sqrt(3)-sqrt(2))", "sqrt(3)+sqrt(2)", ALGEBRAIC),
        ("sqrt(6)", "sqrt(2)*sqrt(3)", ALGEBRAIC),
        ("sqrt(-4)", "2i", ALGEBRAIC),
        ("(x^2-1)/(x-1)", "x+1", ALGEBRAIC),
        ("-x^2", "-(x^2)", ALGEBRAIC),
        ("2^-2", "1/4", ALGEBRAIC),
        ("xy", "y*x", ALGEBRAIC),
        ("5xy^4", "5x*y^4", ALGEBRAIC),  # a power belongs to its letter, not to all before it
        ("xyz^2", "x*y*z*z", ALGEBRAIC),
        ("xy^2z", "x*z*y^2", ALGEBRAIC),
        ("1/xy^2", "1/(x*y^2)", ALGEBRAIC),
        ("xy^-1", "x/y", ALGEBRAIC),
        ("2xy^2-xy", "2x*y^2-x*y", RULES["expanded"]),
        ("e^2*e", "e^3", ALGEBRAIC),
    ],
)
def test_what_the_rule_permits_is_right(answer: str, gold: str, rule: Rule) -> None:
    assert judge(f"\\boxed{{{answer}}}", gold, rule) is Verdict.RIGHT


@pytest.mark.parametrize(
    ("answer", "gold", "rule"),
    [
        ("84/4", "21", RULES["integer"]),  # the question is no answer
        ("\\frac{84}{4}", "21", RULES["integer"]),
        ("\\frac{84}{-4}", "-21", RULES["integer"]),
        ("\\frac{-84}{4}", "-21", RULES["lowest"]),
        ("\\frac{2}{-4}", "-1/2", RULES["percent"]),
        ("\\frac{1}{-0}", "1", RULES["number"]),
        ("\\frac{--1}{2}", "1/2", RULES["number"]),
        ("1/-2", "-1/2", RULES["number"]),
        ("84/4", "21", RULES["lowest"]),
        ("2/4", "1/2", RULES["lowest"]),
        ("2/4", "1/2", Rule("number", is_lowest=True, has_dollars=True)),
        ("(x+1)(x-1)", "x^2-1", RULES["expanded"]),
        ("x*x-1", "x^2-1", RULES["expanded"]),
        ("x^2-2+1", "x^2-1", RULES["expanded"]),
        ("sqrt(12)", "2*sqrt(3)", RULES["expanded"]),
        ("sqrt(3)+sqrt(3)", "2*sqrt(3)", RULES["expanded"]),
        ("sqrt(2)*sqrt(6)", "2*sqrt(3)", RULES["expanded"]),
        ("0.25", "25", RULES["percent"]),
        ("12 km", "12", RULES["integer"]),
        ("12 miles", "12", Rule("integer", units=("km",))),
        ("12 skm", "12", Rule("integer", units=("km",))),
        ("$5", "5", RULES["integer"]),
        ("3.142", "3.1416", RULES["number"]),
        ("1,000", "1000", RULES["list"]),
        ("0,004", "4", RULES["number"]),  # nowhere a four
        ("00,400", "400", RULES["integer"]),
        ("0,004", "4", ALGEBRAIC),
        ("xy^2", "(xy)^2", ALGEBRAIC),
        ("-3, 2", "2, -3", RULES["list"]),
        ("2", "2, -3", RULES["list"]),
        ("monday", "Monday", RULES["text"]),
        ("1 1/2", "3/2", RULES["number"]),
        ("x0", "0", ALGEBRAIC),
        ("2*sqrt(3)0", "2*sqrt(30)", ALGEBRAIC),
        ("x 2", "2x", ALGEBRAIC),
        ("sin(x)", "sin(x)+0", ALGEBRAIC),  # has no normal form
        ("x/x", "1+0/(x-x)", ALGEBRAIC),
    ],
)
def test_what_it_does_not_permit_is_not(answer: str, gold: str, rule: Rule) -> None:
    assert judge(f"\\boxed{{{answer}}}", gold, rule) is not Verdict.RIGHT


def test_numbers_are_too_high_or_too_low() -> None:
    assert judge("13", "12", RULES["integer"]) is Verdict.TOO_HIGH
    assert judge("-13", "12", RULES["integer"]) is Verdict.TOO_LOW
    assert judge("0.4999", "1/2", RULES["lowest"]) is Verdict.TOO_LOW
    assert judge("twelve", "12", RULES["integer"]) is Verdict.UNREADABLE
    assert judge("x+1", "x", RULES["expanded"]) is Verdict.WRONG


ROOTS = "(" + "*".join(f"(1+sqrt({p}))" for p in (2, 3, 5, 7, 11, 13, 17)) + ")"
ATTACKS = [
    "__import__('os').system('true')", "().__class__", "9**9**9", "9^9^9^9", "2^-9999999", "0^0",
    "(" * 500 + "1" + ")" * 500, "-" * 900 + "1", "{" * 100, "\\frac{" * 100, "1" * 999,
    "(9^999)^999", "*".join(["9^999"] * 100), "(x+y+z+a+b+c)^60", "x^60*x", ROOTS + "^60",
    "+".join(["x"] * 400), "*".join(["(x+1)"] * 60), "1/0", "x/(x-x)", "0/0", "nan", "inf", "-inf",
    "NaN", "Infinity", "oo", "zoo", "1e999", "1e-999", "٣", "１２", "²", "½", "−1", "\ud800",
    "x\udfff", "\x00", "1\x00", "", " ", "\\", "\\sqrt", "\\sqrt[", "^", "sqrt()", "sqrt(1,2)",
    "gcd(1,2)", "lambda: 1", "True", "None", "1 if 1 else 2", "1;2", "a" * 900, "exit()",
    "sqrt(" * 30 + "x" + ")" * 30, "x" + "^2" * 100, "log(0)", "tan(pi/2)", "1__0", "1_0", "0x1",
    "2^(1/0)", "10^1000*10^1000", "sqrt(99999999999999999999)", "i^i",
]  # fmt: skip


@pytest.mark.parametrize("rule", [name for name in RULES if name != "symbolic"])
@pytest.mark.parametrize("gold", ["1", "3"])
def test_attacks_neither_raise_nor_hang_nor_succeed(rule: str, gold: str) -> None:
    for attack in ATTACKS:
        for action in (attack, f"#### {attack}", f"\\boxed{{{attack}}}", f"{attack}</answer>"):
            started = time.process_time()
            verdict = judge(action, gold, RULES[rule])
            assert time.process_time() - started < 1, attack
            assert verdict is not Verdict.RIGHT, (attack, rule)


def test_a_million_characters_are_no_answer() -> None:
    for rule in RULES.values():
        for piece in ("1", "(", "-", "x+", "\\frac{", "9^", "\ud800", "٣"):
            text = piece * (1_000_000 // len(piece))
            started = time.process_time()
            assert judge(text, "1", rule) is not Verdict.RIGHT
            assert judge(f"\\boxed{{{text}}}", "1", rule) is not Verdict.RIGHT
            assert time.process_time() - started < 2


@given(st.text(max_size=40), st.sampled_from(sorted(set(RULES) - {"symbolic"})))
@settings(max_examples=300, deadline=None)
def test_no_text_raises(text: str, rule: str) -> None:
    assert judge(text, "987654321", RULES[rule]) in Verdict


@given(st.text("0123456789xy+-*/^(){}[],.\\sqrtfracpi $%", max_size=40))
@settings(max_examples=500, deadline=None)
def test_no_expression_raises(text: str) -> None:
    assert judge(f"#### {text}", "x^7-123", ALGEBRAIC) is not Verdict.RIGHT
    assert judge(f"#### {text}", "x^7-123", RULES["expanded"]) is not Verdict.RIGHT
