"""Tool calls that can be read, of tools that exist, with the arguments that they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import ToolCall, ToolSpec
from ..tools.formats import parse_action, render_call
from .base import Fixture, Reward, Sample, Score

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class ToolCalls(Reward):
    """The share of valid calls among an action's calls; silent where it makes none.

    Reads `info["tools"]`, a list of `ToolSpec`. It checks the name, missing and unknown arguments,
    and the type of those whose schema says one; the tool itself checks the rest.
    """

    name = "tool_calls"

    def score(self, sample: Sample) -> Score:
        """From 0 to 1."""
        parsed = parse_action(sample.action)
        written = len(parsed.calls) + len(parsed.problems)
        if not written:
            return None
        tools: Mapping[str, ToolSpec] = {tool.name: tool for tool in sample.info.get("tools", ())}
        return sum(_is_valid(call, tools) for call in parsed.calls) / written

    def fixtures(self) -> list[Fixture]:
        """A valid call, an unknown tool, a wrong type, no JSON, and no call."""
        tools = {"tools": [_PRICE]}
        return [
            Fixture.of("full", Sample(render_call("price", item="fig"), info=tools), 1.0),
            Fixture.of("zero", Sample(render_call("prize", item="fig"), info=tools), 0.0),
            Fixture.of("zero", Sample(render_call("price", item=3), info=tools), 0.0),
            Fixture.of("zero", Sample(render_call("price"), info=tools), 0.0),
            Fixture.of("malformed", Sample("<tool_call>{price</tool_call>", info=tools), 0.0),
            Fixture.of("malformed", Sample("price fig", info=tools), None),
        ]


_PRICE = ToolSpec(
    name="price",
    parameters={
        "type": "object",
        "properties": {"item": {"type": "string"}},
        "required": ["item"],
    },
)


def _is_valid(call: ToolCall, tools: Mapping[str, ToolSpec]) -> bool:
    tool = tools.get(call.name)
    if tool is None:
        return False
    properties: dict[str, Any] = tool.parameters.get("properties", {})
    required = tool.parameters.get("required", [])
    if not set(required) <= set(call.arguments) <= set(properties):
        return False
    return all(_has_type(value, properties[name]) for name, value in call.arguments.items())


def _has_type(value: Any, schema: Any) -> bool:
    wanted = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(wanted, str) or wanted not in _TYPES:
        return True
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _TYPES[wanted])
