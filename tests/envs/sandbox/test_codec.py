"""Values cross exactly, or not at all."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnhalle.envs.sandbox.guest import codec

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
)
_HASHABLE = st.recursive(
    _LEAVES, lambda each: st.tuples(each, each) | st.frozensets(each, max_size=3), max_leaves=6
)
_VALUES = st.recursive(
    _HASHABLE,
    lambda each: st.lists(each) | st.tuples(each) | st.dictionaries(_HASHABLE, each, max_size=3),
    max_leaves=12,
)


def write(value: Any) -> bytes:
    return codec.dumps(codec.encode(value)).encode("ascii")


def read(data: bytes) -> Any:
    return codec.decode(codec.parse(data))


def same(a: Any, b: Any) -> bool:
    """Equal and of the same types all the way down; NaN is NaN, -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.isnan(a) == math.isnan(b) and (
            math.isnan(a) or (a == b and math.copysign(1, a) == math.copysign(1, b))
        )
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and same(list(a.items()), list(b.items()))
    if isinstance(a, set | frozenset):
        return write(a) == write(b)
    return bool(a == b)


@given(_VALUES)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    assert same(read(write(value)), value)


@given(st.sets(_HASHABLE))
def test_sets_have_one_form(value: set[Any]) -> None:
    backwards = set[Any]()
    for item in sorted(value, key=write, reverse=True):
        backwards.add(item)  # another history, which may walk in another order
    assert write(value) == write(backwards)


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class Spoof:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        return int


@pytest.mark.parametrize(
    ("value", "is_custom"),
    [
        (Liar(1), True),
        pytest.param(Spoof(), True, id="spoof"),
        ([1, {"a": Liar(1)}], True),
        (namedtuple("P", "x")(1), True),
        (Counter("a"), False),
        (OrderedDict(), False),
        ((each for each in ()), False),
        (range(3), False),
        (print, False),
        (int, False),
    ],
    ids=lambda value: None if isinstance(value, bool) else type(value).__name__,
)
def test_other_types_are_refused_and_custom_ones_flagged(value: Any, is_custom: bool) -> None:
    with pytest.raises(codec.CodecError) as caught:
        write(value)
    assert caught.value.is_custom is is_custom


def test_what_is_too_deep_is_refused_on_both_sides() -> None:
    deep: list[Any] = []
    for _ in range(codec.MAX_DEPTH + 1):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (deep, cycle):
        with pytest.raises(codec.CodecError, match="deeper"):
            write(value)
    for data in (b"[" * 200 + b"]" * 200, b"[" * 500_000):
        with pytest.raises(codec.CodecError):
            read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nan",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"9007199254740993999999",
        b'{"t":[],"t":[]}',
        b'{"t":[],"s":[]}',
        b'{"q":[]}',
        b"{}",
        b'{"t":3}',
        b'{"s":[[1]]}',
        b'{"s":[1,1]}',
        b'{"s":[1,true]}',
        b'{"s":[{"d":[]}]}',
        b'{"d":[[1,2],[1,3]]}',
        b'{"d":[[1]]}',
        b'{"d":{"a":1}}',
        b'{"i":"0x1"}',
        b'{"i":"12345678901234567890"}',
        b'{"i":3}',
        b'{"f":"1.5"}',
        b'{"f":["nan"]}',
        b'{"c":[1,2]}',
        b'{"c":[1.0]}',
        b'{"c":5}',
        b'{"b":"@@"}',
        b'{"b":5}',
        b"[1] [2]",
        b"[1]\x00",
        b"\xef\xbb\xbf[1]",
        '"é"'.encode(),
    ],
)
def test_forged_json_is_an_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(codec.CodecError):
        read(data)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_codec_error(data: bytes) -> None:
    try:
        read(data)
    except codec.CodecError:
        return
