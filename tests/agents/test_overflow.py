"""Observations that are too long: cut in the middle, and never to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from turnhalle.agents.overflow import fit
from turnhalle.envs.core import Message


def render(messages: Sequence[Message]) -> list[int]:
    return [0, *"".join(m.content for m in messages).encode(), 0]


def message(text: str) -> Message:
    return Message(role="user", content=text)


def test_what_fits_stays_as_it_is() -> None:
    messages = [message("short"), message("words")]
    assert fit(messages, render, 12) == messages


def test_the_middle_of_the_longest_is_left_out_and_the_ends_are_kept() -> None:
    text = "begin " + "x" * 5000 + " end"
    ids = render(fit([message("a word"), message(text)], render, 300))
    shown = bytes(ids[1:-1]).decode()
    assert len(ids) <= 300
    assert shown.startswith("a wordbegin")
    assert shown.endswith(" end")
    assert "characters left out" in shown


def test_where_nothing_fits_the_caller_is_told_by_the_length() -> None:
    assert len(render(fit([message("x" * 500)], render, 10))) > 10
    assert len(render(fit([message("x" * 500)], render, -5))) > 10
