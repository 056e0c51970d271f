"""Odd roots of negative numbers are real; powers keep the principal branch."""

from __future__ import annotations

import time

import pytest

from turnhalle.envs.math import worker
from turnhalle.envs.math.grading import RULES, Verdict, is_gold, judge

EQUAL = [
    ("\\sqrt[3]{-8}", "-2"),
    ("\\sqrt[3]{-2}", "-\\sqrt[3]{2}"),
    ("\\sqrt[5]{-\\frac{1}{32}}", "-1/2"),
    ("\\sqrt[3]{2+\\sqrt5}+\\sqrt[3]{2-\\sqrt5}", "1"),
    ("\\sqrt[3]{20+14\\sqrt{2}}+\\sqrt[3]{20-14\\sqrt{2}}", "4"),
    ("\\sqrt[3]{\\sqrt[3]{-8}-6}", "-2"),
    ("\\sqrt[3]{-10^{330}}", "-10^{110}"),  # beyond what a float holds
    ("\\sqrt[3]{-10^{-330}}", "-10^{-110}"),
    ("\\sqrt[3]{7-5\\sqrt{2}}", "1-\\sqrt{2}"),
    ("\\sqrt[3]{\\cos(\\pi)}", "-1"),
    ("\\sqrt[1]{-8}", "-8"),
    ("\\sqrt[3]{-8}^2", "4"),
    ("\\sqrt[3]{0}", "0"),
]


@pytest.mark.parametrize("rule", ["algebraic", "symbolic"])
@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_an_odd_root_of_a_negative_number_is_real(left: str, right: str, rule: str) -> None:
    worker.close()
    assert judge(left, right, RULES[rule]) is Verdict.RIGHT
    assert judge(right, left, RULES[rule]) is Verdict.RIGHT
    assert is_gold(left, RULES[rule])
    assert worker.process_id() is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("\\sqrt[3]{-8}", "(-8)^{1/3}"),
        ("(-8)^{1/3}", "-2"),
        ("\\sqrt[3]{-8}", "1+\\sqrt{-3}"),
        ("\\sqrt[3]{x^3}", "x"),  # of what has variables it is the principal one
    ],
)
def test_a_power_has_its_principal_value(left: str, right: str) -> None:
    assert judge(left, right, RULES["symbolic"]) is Verdict.WRONG


def test_a_transcendental_radicand_counts_too() -> None:
    assert judge("(-8)^{1/3}", "1+\\sqrt{-3}", RULES["symbolic"]) is Verdict.RIGHT
    for left, right in (("\\sqrt[3]{3-\\pi}", "-\\sqrt[3]{\\pi-3}"), ("\\sqrt[3]{-e^3}", "-e")):
        assert judge(left, right, RULES["symbolic"]) is Verdict.RIGHT


@pytest.mark.parametrize("text", ["\\sqrt12", "\\sqrt2.5", "\\sqrt xy", "\\sqrt[3]12", "\\sqrt-1"])
def test_a_root_without_braces_is_of_one_character(text: str) -> None:
    assert judge(text, "\\sqrt2", RULES["algebraic"]) is Verdict.UNREADABLE
    assert judge("\\sqrt x^2+\\sqrt\\pi", "x+sqrt(pi)", RULES["symbolic"]) is Verdict.RIGHT
    assert judge("\\sqrt2x", "x*sqrt(2)", RULES["symbolic"]) is Verdict.RIGHT
    assert judge("\\sqrt[3]2+\\sqrt x", "2^(1/3)+sqrt(x)", RULES["symbolic"]) is Verdict.RIGHT


@pytest.mark.parametrize(
    "text",
    ["+".join(["\\sqrt[3]{\\sqrt{3+2\\sqrt2}-1-\\sqrt2}"] * 20),
     "\\sqrt[3]{-1+" * 15 + "1" + "}" * 15,
     "+".join(f"\\sqrt[9]{{\\sqrt{{{n}}}-{n}}}" for n in range(2, 30))],
)  # fmt: skip
def test_no_sign_takes_long(text: str) -> None:
    started = time.process_time()
    judge(text, "5", RULES["algebraic"])
    assert time.process_time() - started < 1
