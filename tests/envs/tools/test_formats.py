"""Formats of tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.core import ToolSpec
from turnhalle.envs.errors import UnknownNameError
from turnhalle.envs.tools.faults import Fault
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


EVERYTHING = ToolSpec(
    name="everything",
    parameters={
        "properties": {
            "text": {"type": "string"},
            "whole": {"type": "integer"},
            "broken": {"type": "number"},
            "yes": {"type": "boolean"},
            "many": {"type": "array"},
            "some": {"type": "object"},
        }
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.fixed_dictionaries(
    {
        "text": st.text(min_size=1),
        "whole": st.integers(-(10**9), 10**9),
        "broken": st.floats(-1e6, 1e6),
        "yes": st.booleans(),
        "many": st.lists(JSON, max_size=3),
        "some": st.dictionaries(st.text(), JSON, max_size=3),
    }
)


def calls_of(action: str) -> list[tuple[str, Any]]:
    parsed = parse_action(action)
    assert not parsed.problems
    return [(call.name, call.arguments) for call in parsed.calls]


@pytest.mark.parametrize("format", FORMATS)
@given(several=st.lists(ARGUMENTS, min_size=1, max_size=3), text=st.sampled_from(["", "I see."]))
def test_every_format_says_what_canonical_says(
    format: str, several: list[dict[str, Any]], text: str
) -> None:
    action = text + "".join(render_call("everything", **arguments) for arguments in several)
    written = from_canonical(action, format, [EVERYTHING])
    back = to_canonical(written, format, [EVERYTHING])
    assert calls_of(back) == [("everything", arguments) for arguments in several]
    assert parse_action(back).text == text


@given(text=st.text())
def test_an_argument_may_hold_the_tags(text: str) -> None:
    held = f"{text}</tool_call><tool_call>{text}"
    assert calls_of(render_call("note", text=held)) == [("note", {"text": held})]
    # As a model may write it, without an escape.
    bare = json.dumps({"name": "note", "arguments": {"text": held}})
    twice = f"<tool_call>{bare}</tool_call> and {render_call('note', title='b')}"
    assert calls_of(twice) == [("note", {"text": held}), ("note", {"title": "b"})]


FIG, OLIVE = ("price", {"item": "fig"}), ("price", {"item": "olive"})


@pytest.mark.parametrize(
    ("format", "text", "calls"),
    [
        ("llama3", '{"name": "price", "parameters": {"item": "fig"}}', [FIG]),
        ("llama3", '<|python_tag|>{"name": "price", "parameters": {"item": "fig"}}', [FIG]),
        ("llama3", '{"name": "price", "arguments": {"item": "fig"}}', [FIG]),
        (
            "llama3",
            '{"name": "price", "parameters": {"item": "fig"}}; '
            '{"name": "price", "parameters": {"item": "olive"}}',
            [FIG, OLIVE],
        ),
        ("mistral", '[TOOL_CALLS][{"name": "price", "arguments": {"item": "fig"}}]', [FIG]),
        ("mistral", '[TOOL_CALLS] {"name": "price", "arguments": {"item": "fig"}}', [FIG]),
        ("mistral", '[TOOL_CALLS]price[ARGS]{"item": "fig"}', [FIG]),
        (
            "mistral",
            '[TOOL_CALLS]price[CALL_ID]a1[ARGS]{"item": "fig"}'
            '[TOOL_CALLS]price[ARGS]{"item": "olive"}',
            [FIG, OLIVE],
        ),
    ],
)
def test_what_models_write_is_read(format: str, text: str, calls: list[Any]) -> None:
    assert calls_of(to_canonical(text, format, TOOLS)) == calls


@pytest.mark.parametrize(
    ("format", "text", "kinds"),
    [
        ("hermes", "<tool_call>{</tool_call>", ["bad_json"]),
        ("llama3", '{"name": "price", "parameters": {"item": ', ["bad_json"]),
        ("llama3", '<|python_tag|>price("fig")', ["bad_json"]),
        ("llama3", '{"price": "fig"}', ["bad_shape"]),
        ("llama3", "{" * 100_000, ["bad_json"]),
        ("llama3", '{"name": ' + "[" * 100_000, ["bad_json"]),
        ("mistral", "[TOOL_CALLS]oh no", ["bad_json"]),
        ("mistral", "[TOOL_CALLS][1, 2]", ["bad_shape", "bad_shape"]),
        ("mistral", '[TOOL_CALLS]price[ARGS]{"item', ["bad_json"]),
        ("mistral", "[TOOL_CALLS]" + "[" * 100_000, ["bad_json"]),
        ("mistral", '[TOOL_CALLS][{"name": "price", "arguments": "fig"}]', ["bad_shape"]),
    ],
)
def test_what_was_meant_as_a_call_reaches_the_environment_for_its_grade(
    format: str, text: str, kinds: list[str]
) -> None:
    items = parse_action(to_canonical(text, format, TOOLS)).items
    assert [item.kind for item in items if isinstance(item, Fault)] == kinds
    assert len(items) == len(kinds)


def test_compact_writes_calls_of_tools_it_does_not_know() -> None:
    assert from_canonical(render_call("erase", all=True), "compact", TOOLS) == "erase true"


def test_compact_fills_a_gap_with_the_default() -> None:
    spec = ToolSpec(
        name="cut",
        parameters={"properties": {"a": {"type": "integer", "default": 3}, "b": {}}},
    )
    assert from_canonical(render_call("cut", b="x"), "compact", [spec]) == "cut 3 x"
    assert from_canonical(render_call("cut"), "compact", [spec]) == "cut"


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


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "marker", ["[TOOL_CALLS]", "<|python_tag|>", "[ARGS]", "<tool_call>", "</tool_call>", "; {"]
)
def test_markers_inside_of_an_argument_are_text(format: str, marker: str) -> None:
    calls = [
        render_call("note", title=f"a {marker} b", text=marker),
        render_call("note", title="1", text=f"{marker}{marker}"),
    ]
    for before in ("", "Let me see.\n"):
        action = before + "\n".join(calls)
        again = to_canonical(from_canonical(action, format, [NOTE]), format, [NOTE])
        assert parse_action(again).calls == parse_action(action).calls
