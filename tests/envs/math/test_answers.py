"""One strict rule for where the answer is, and what a number looks like."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from turnhalle.envs.math.answers import extract, parse_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("-3", -3),
        ("+4", 4),
        ("007", 7),
        ("0.50", Fraction(1, 2)),
        ("-0.25", Fraction(-1, 4)),
        ("3/4", Fraction(3, 4)),
        ("1,319", 1319),
        ("12,345,678.5", Fraction("12345678.5")),
    ],
)
def test_numbers_are_read_as_rationals(text: str, number: Fraction) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "1 2", "1e5", "1/0", "1/00", "0.5/2", "1,23", "12,3456", "٣", "1_000", "--1",
     "0,004", "00,400", "1.", ".5", "nan", "inf", "0x10", "9" * 1001, "\ud800", "1\n", "½"],
)  # fmt: skip
def test_what_is_no_number_is_no_answer(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("action", "answer"),
    [
        ("42", "42"),
        (" 42\n", "42"),
        ("1+1=2 #### 2", "2"),
        ("#### 1\n#### 2", "2"),
        ("#### 1 #### 2", "1 #### 2"),
        ("##### 5", "# 5"),
        ("so \\boxed{3/4}.", "3/4"),
        ("\\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        ("\\boxed{1} and \\boxed{\\sqrt{2}}", "\\sqrt{2}"),
        ("\\boxed{\\boxed{5}}", "\\boxed{5}"),
        ("\\boxed{5} then \\boxed{6", "5"),
        ("\\boxed{ \\boxed{5}", "5"),
        ("<answer> 5 </answer> thanks", "5"),
        ("<answer>5</answer> or <answer>6", "5"),
        ("<answer>5\n</answer>", "5"),
        ("#### 1 \\boxed{2}", "1 \\boxed{2}"),
        ("\\boxed{1} #### 2", "2"),
        ("#### 2\n\\boxed{1}", "1"),
        ("<answer>#### 3</answer>", "#### 3"),
        ("#### ", ""),
        ("\\boxed{}", ""),
        ("it is 42", "it is 42"),
    ],
)
def test_the_last_marker_wins(action: str, answer: str) -> None:
    assert extract(action) == answer


@pytest.mark.parametrize(
    "piece",
    ["\\boxed{", "<answer>", "####", "{", "}", "\\boxed{}", "</answer>", "<answer></answer>", "a",
     "\\boxed{<answer>", "#### \n", "\n", " "],
)  # fmt: skip
def test_a_million_characters_take_linear_time(piece: str) -> None:
    started = time.process_time()
    extract(piece * (1_000_000 // len(piece)) + "<answer>")
    assert time.process_time() - started < 2
