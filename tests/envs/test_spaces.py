"""The space of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnhalle.envs.spaces import UnicodeText


@given(st.text(max_size=20))
def test_any_text_within_the_bounds_is_a_member(text: str) -> None:
    assert UnicodeText(20).contains(text)
    assert UnicodeText(5).contains(text) is (len(text) <= 5)
    assert UnicodeText(20, min_length=1).contains(text) is bool(text)


def test_other_things_are_no_members() -> None:
    assert not UnicodeText().contains(3)
    assert not UnicodeText().contains(b"bytes")


def test_samples_are_members_and_follow_the_seed() -> None:
    space = UnicodeText(10, min_length=2, seed=1)
    samples = [space.sample() for _ in range(200)]
    assert all(space.contains(sample) for sample in samples)
    assert samples[0] == UnicodeText(10, min_length=2, seed=1).sample()
    with pytest.raises(ValueError, match="mask"):
        space.sample(mask=1)


def test_bad_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="got 5 and 3"):
        UnicodeText(3, min_length=5)


def test_spaces_with_equal_bounds_are_equal() -> None:
    assert UnicodeText(5) == UnicodeText(5) != UnicodeText(6)
