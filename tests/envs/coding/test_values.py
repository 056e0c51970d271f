"""Comparison in the host: exactly, by rule, and whatever the value."""

from __future__ import annotations

import math
from typing import Any

import pytest

from turnhalle.envs.coding.grading.outputs import is_same_output
from turnhalle.envs.coding.grading.values import MAX_DEPTH, is_same

NAN, INF = math.nan, math.inf
DIFFERENT = [
    (True, 1), (1, True), (1, 1.0), (1.0, 1), ("1", 1), (None, False), (0, None), ("", None),
    ([1], (1,)), ((1,), [1]), ([1, 2], [2, 1]), ([1], [1, 1]), ([True], [1]),
    ({"a": 1}, {"a": True}),
    ({1: "x"}, {True: "x"}), ({"a": 1}, {"b": 1}), ({"a": 1}, {}), ({1}, {True}), ({1}, {1.0}),
    ({1}, frozenset({1})), (0.0, -0.0), (NAN, 0.0), (INF, -INF), (1e308, INF), (b"a", "a"),
    ("a", "A"),
    ("a\u200b", "a"), ("A", "\u0391"), ([[]], [[[]]]), (2**53 + 1, 2**53), (0.1 + 0.2, 0.3),
    (object(), object()), ({(1,): 2}, {(True,): 2}),
]  # fmt: skip
SAME = [
    None, True, 0, -1, 10**40, 0.5, -0.0, NAN, INF, "", "ä\n", b"x", 1j, [], [1, [2.5, "a"]],
    (1, (2,)),
    {}, {"b": [1], "a": {2: None}}, {1, "a"}, frozenset({(1, 2)}), {(1, 2.0): [True]},
]  # fmt: skip


class AlwaysEqual(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(("given", "wanted"), DIFFERENT)
def test_values_that_python_may_call_equal_are_not_the_same(given: Any, wanted: Any) -> None:
    assert not is_same(given, wanted)
    assert not is_same([given], [wanted])
    assert not is_same({"x": (given,)}, {"x": (wanted,)})


@pytest.mark.parametrize("value", SAME, ids=lambda value: type(value).__name__)
def test_a_value_is_itself(value: Any) -> None:
    import copy

    assert is_same(value, copy.deepcopy(value))
    assert is_same([value, {"x": value}], [copy.deepcopy(value), {"x": value}])


def test_the_order_of_dictionaries_and_sets_is_free() -> None:
    assert is_same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert is_same({3, 1, 2}, {1, 2, 3})


def test_a_type_of_its_own_is_never_what_was_wanted() -> None:
    assert not is_same(AlwaysEqual(7), 7)
    assert not is_same([AlwaysEqual(7)], [7])
    assert not is_same({AlwaysEqual(7): 1}, {7: 1})
    assert not is_same({AlwaysEqual(7)}, {7})


def test_tolerance_is_for_floats_where_it_is_declared() -> None:
    assert not is_same(0.3000001, 0.3)
    assert is_same(0.3000001, 0.3, 1e-5)
    assert is_same(1000.001, 1000.0, 1e-5)
    assert is_same([2], [2.0], 1e-9)
    assert is_same(0.0, -0.0, 1e-9)
    assert not is_same(0.4, 0.3, 1e-5)
    assert not is_same(True, 1.0, 1e-5)
    assert not is_same("0.3", 0.3, 1.0)
    assert not is_same(NAN, 0.3, 1.0)
    assert not is_same(INF, 0.3, 1.0)
    assert not is_same(10**400, 0.3, 1.0)
    assert is_same(NAN, NAN, 1e-5)
    assert not is_same(0.3, NAN, 1e-5)
    assert not is_same(3, 2, 5.0)  # an integer is wanted: tolerance has no say


def test_depth_and_size_are_bounded() -> None:
    deep: Any = []
    for _ in range(MAX_DEPTH + 5):
        deep = [deep]
    assert not is_same(deep, deep)
    assert not is_same([0] * 300_000, [0] * 300_000)
    assert is_same([0] * 100_000, [0] * 100_000)


@pytest.mark.parametrize(
    ("rule", "given", "wanted", "is_right"),
    [
        ("exact", "a b\n", "a b", True),
        ("exact", "a  b", "a b", False),
        ("exact", "a b\n\n", "a b", False),
        ("exact", "a b ", "a b", False),
        ("tokens", " a\r\n b\t", "a b\n", True),
        ("tokens", "a b c", "a b", False),
        ("tokens", "", "a", False),
        ("tokens", "a\u2028b", "a b", False),
        ("tokens", "a\u200b b", "a b", False),
        ("tokens", "a\x00 b", "a b", False),
        ("tokens", "x\ra b", "a b", False),
        ("tokens", "\x1b[2Ka b", "a b", False),
        ("tokens", "1.0", "1", False),
        ("numbers", "1.0000001", "1", True),
        ("numbers", "1.1", "1", False),
        ("numbers", "nan", "1", False),
        ("numbers", "inf", "1e999", False),
        ("numbers", "1_0", "10", False),
        ("numbers", "٣", "3", False),
        ("numbers", "x 2.0", "x 2", True),
        ("numbers", "y 2", "x 2", False),
    ],
)
def test_outputs_are_compared_by_the_declared_rule(
    rule: Any, given: str, wanted: str, is_right: bool
) -> None:
    assert is_same_output(given, wanted, rule, 1e-6) is is_right
