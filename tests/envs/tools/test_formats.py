"""Formats of tool calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.core import ToolSpec
from turnhalle.envs.errors import UnknownNameError
from turnhalle.envs.tools.formats import (
    FORMATS,
    describe,
    from_canonical,
    parse_action,
    readable,
    render_call,
    to_canonical,
)

TOOLS = th.make("tools").tools()
NOTE = ToolSpec(
    name="note",
    parameters={"properties": {"title": {"type": "string"}, "text": {"type": "string"}}},
)


def test_the_canonical_form_is_read() -> None:
    action = 'Let me see. <tool_call>{"name": "price", "arguments": {"item": "fig"}}</tool_call>'
    parsed = parse_action(action)
    assert [(c.name, c.arguments) for c in parsed.calls] == [("price", {"item": "fig"})]
    assert parsed.text == "Let me see."
    assert not parsed.problems


def test_several_calls_keep_their_order() -> None:
    action = render_call("price", item="fig") + "\n" + render_call("order", id=3)
    assert [call.name for call in parse_action(action).calls] == ["price", "order"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("{not json}", "no JSON"),
        ('{"arguments": {}}', '"name"'),
        ('{"name": 3}', '"name"'),
        ("[]", '"name"'),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_malformed_calls_are_told_and_nothing_is_run(body: str, problem: str) -> None:
    parsed = parse_action(f"<tool_call>{body}</tool_call>")
    assert not parsed.calls
    assert problem in parsed.problems[0]


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    parse_action(text)
    parse_action(f"<tool_call>{text}")
    for format in FORMATS:
        to_canonical(text, format, TOOLS)


ARGUMENT = st.one_of(
    st.integers(-(10**6), 10**6), st.text(min_size=1).filter(lambda t: th.parse_int(t) is None)
)


@given(title=ARGUMENT, text=ARGUMENT)
def test_compact_says_what_canonical_says(title: Any, text: Any) -> None:
    canonical = render_call("note", title=str(title), text=str(text))
    compact = from_canonical(canonical, "compact", [NOTE])
    (call,) = parse_action(to_canonical(compact, "compact", [NOTE])).calls
    assert call.arguments == {"title": str(title), "text": str(text)}


def test_compact_reads_words_by_position_and_type() -> None:
    (call,) = parse_action(to_canonical("refund 41 7", "compact", TOOLS)).calls
    assert call.arguments == {"id": 41, "amount": 7}
    (call,) = parse_action(to_canonical("refund 41 7 now", "compact", TOOLS)).calls
    assert call.arguments["extra"] == "now"
    (call,) = parse_action(to_canonical('price "dried fig"', "compact", TOOLS)).calls
    assert call.arguments == {"item": "dried fig"}


def test_calls_are_readable_for_people() -> None:
    action = "I look. " + render_call("price", item="fig") + render_call("refund", id=4, amount=7)
    assert readable(action) == 'I look.\nprice(item="fig")\nrefund(id=4, amount=7)'
    assert readable("done <tool_call>{") == "done <tool_call>{"


def test_an_argument_may_be_called_name() -> None:
    tool = ToolSpec(name="phone", parameters={"properties": {"name": {"type": "string"}}})
    (call,) = parse_action(to_canonical("phone Ada", "compact", [tool])).calls
    assert (call.name, call.arguments) == ("phone", {"name": "Ada"})


def test_text_that_names_no_tool_is_an_answer() -> None:
    assert to_canonical("done", "compact", TOOLS) == "done"
    assert to_canonical("17", "compact", TOOLS) == "17"


@pytest.mark.parametrize("format", FORMATS)
def test_descriptions_name_every_tool(format: str) -> None:
    text = describe(TOOLS, format)
    assert all(tool.name in text and tool.description in text for tool in TOOLS)


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'hermes'"):
        to_canonical("x", "hermis", TOOLS)
