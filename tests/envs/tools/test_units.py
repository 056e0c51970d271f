"""Quantities are exact, and dimensions are kept apart."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.tools.formats import render_call
from turnhalle.envs.tools.quantity import (
    UNITS,
    Quantity,
    parse_quantity,
    write_base,
    write_in,
    write_number,
)
from turnhalle.envs.tools.tool import ToolError
from turnhalle.envs.tools.units import FORMULAS, Units


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        ("60 km/h", "*", "30 min", "30000 m"),
        ("90 L", "/", "20 L/min", "270 s"),
        ("1 m", "/", "3 s", "1/3 m/s"),
        ("1 ft", "+", "1 in", "0.3302 m"),
        ("5 eur/kg", "*", "200 g", "1 eur"),
        ("1 m", "/", "1 m", "1"),
        ("1", "/", "2 s", "0.5 1/s"),
        ("2 m2", "-", "1 m2", "1 m2"),
        ("0 m", "-", "1 m", "-1 m"),
        ("0.5 1/s", "*", "2 s", "1"),
    ],
)
def test_arithmetic_is_that_of_physics(left: str, operator: str, right: str, result: str) -> None:
    assert write_base(parse_quantity(left).combine(operator, parse_quantity(right))) == result


@pytest.mark.parametrize(
    "text", ["", "km", "5 parsec", "5 km/", "1/0 m", "1e5 m", "5 m7", "5 m1", "٣ m", "1" * 200]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match=r"reads like|no unit|division by zero"):
        parse_quantity(text)


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(ToolError, match="cannot add m and s"):
        parse_quantity("1 m").combine("+", parse_quantity("1 s"))
    with pytest.raises(ToolError, match="division by zero"):
        parse_quantity("1 m").combine("/", parse_quantity("0"))
    with pytest.raises(ToolError, match="powers of units"):
        parse_quantity("1 m6").combine("*", parse_quantity("1 m"))
    with pytest.raises(ToolError, match="too long"):
        parse_quantity("9" * 30).combine("*", parse_quantity("9" * 30))
    with pytest.raises(ToolError, match="does not measure"):
        write_in(parse_quantity("1 m"), "s")


@given(st.fractions(max_denominator=10**12).filter(lambda f: abs(f) < 10**20))
def test_numbers_are_read_as_they_are_written(value: Fraction) -> None:
    assert parse_quantity(write_number(value)).value == value


@given(st.fractions(0, 1000, max_denominator=1000), st.sampled_from(sorted(UNITS)))
def test_units_do_not_change_a_quantity(value: Fraction, unit: str) -> None:
    quantity = Quantity(value * UNITS[unit][0], UNITS[unit][1])
    assert parse_quantity(write_in(quantity, unit)) == quantity
    assert parse_quantity(write_base(quantity)) == quantity


def test_factors_are_those_of_the_definitions() -> None:
    known = {"1 mi": "1609.344 m", "1 lb": "453.59237 g", "1 day": "24 h", "1 m3": "1000 L"}
    for left, right in known.items():
        assert parse_quantity(left) == parse_quantity(right)


def test_an_answer_may_leave_out_its_unit_or_use_an_equal_one() -> None:
    env = th.make("units")
    assert isinstance(env, Units)
    env.reset(seed=0)
    for name, arguments in env.plan:
        env.step(render_call(name, **arguments))
    number, unit = str(env.goal.answer).split()
    base = write_base(parse_quantity(str(env.goal.answer)))
    for answer in (number, f"{number} {unit}", f" {number}{unit} ", base):
        assert env.fork().step(render_call("done", answer=answer))[4]["success"], answer
    wrong = "s" if unit != "s" else "m"
    for answer in (f"{number} {wrong}", f"about {number}", f"{number} {unit}.", number + "1"):
        assert not env.fork().step(render_call("done", answer=answer))[4]["success"], answer


def test_every_question_is_drawn() -> None:
    for size, formulas in FORMULAS.items():
        env = th.make("units", difficulty=size)
        drawn = set()
        for task in range(80):
            env.reset(options={"task": task})
            drawn.add(env.instance["formula"])
        assert drawn == set(range(len(formulas)))


def test_an_overlong_unit_is_refused_whole() -> None:
    with pytest.raises(ToolError, match="at most 120 characters") as caught:
        write_in(parse_quantity("1 m"), "cm" + "*1" * 59 + "GARBAGE" * 100)
    assert "GARBAGE" not in str(caught.value)
