"""How Llama 3 and Mistral models write tool calls: translation to the canonical form and back.

Llama 3: `{"name": ..., "parameters": {...}}`, several joined by `; `, after `<|python_tag|>` where
text comes first; `<|python_tag|>name.call(argument="text")`, how Llama 3.1 calls what it was
trained on, is read but not written. Mistral: `[TOOL_CALLS][{"name": ..., "arguments": {...}}]`,
and the newer `[TOOL_CALLS]name[ARGS]{...}`, which is read but not written. What was meant as a call
but cannot be read is handed on for the environment to grade.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..core import ToolCall, ToolSpec
from .canonical import parse_action, wrap, wrap_unreadable

PYTHON_TAG, TOOL_CALLS, ARGS = "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]"
_GAP = re.compile(r"(?:[\s;,]|<\|python_tag\|>|\[TOOL_CALLS\])*")
_PYTHON_CALL = re.compile(r"(?P<name>[\w.-]{1,200})\.call\((?P<arguments>.*)\)", re.DOTALL)
_PYTHON_ARGUMENT = re.compile(r'(\w+)="(.*?)"(?:, (?=\w+=")|\Z)', re.DOTALL)
_decoder = json.JSONDecoder()


def read_llama(text: str, tools: Sequence[ToolSpec]) -> str:
    """Translate what a Llama 3 model wrote."""
    before, tag, body = text.partition(PYTHON_TAG)
    if text.lstrip().startswith("{") and (not tag or _begins_with_json(text.lstrip())):
        before, body = "", text  # the tag may also stand inside of an argument
    elif not tag:
        return text
    return _joined(before, [_renamed(value) for value in _python_call(body) or _values(body)])


def write_llama(action: str, tools: Sequence[ToolSpec]) -> str:
    """Write an action as a Llama 3 model would."""
    parsed = parse_action(action)
    if not parsed.calls:
        return parsed.text
    bodies = [_json({"name": c.name, "parameters": c.arguments}) for c in parsed.calls]
    tag = PYTHON_TAG if parsed.text else ""
    return f"{parsed.text}{tag}{'; '.join(bodies)}"


def describe_llama(tools: Sequence[ToolSpec]) -> str:
    """Tell a Llama 3 model what the tools are."""
    lines = [_json(tool.as_openai()) for tool in tools]
    return (
        "You may call these functions:\n" + "\n".join(lines) + "\nTo call one, answer with "
        '{"name": function name, "parameters": dictionary of arguments} and nothing else.'
    )


def read_mistral(text: str, tools: Sequence[ToolSpec]) -> str:
    """Translate what a Mistral model wrote."""
    before, _, body = text.partition(TOOL_CALLS)
    if body.lstrip().startswith("["):
        return _joined(before, list(_flat(_values(body))))
    bodies = body.split(TOOL_CALLS) if body else []
    return _joined(before, [call for body in bodies for call in _named_calls(body)])


def write_mistral(action: str, tools: Sequence[ToolSpec]) -> str:
    """Write an action as a Mistral model would."""
    parsed = parse_action(action)
    if not parsed.calls:
        return parsed.text
    return f"{parsed.text}{TOOL_CALLS}{_json([_plain(call) for call in parsed.calls])}"


def describe_mistral(tools: Sequence[ToolSpec]) -> str:
    """Tell a Mistral model what the tools are."""
    return (
        f"[AVAILABLE_TOOLS]{_json([tool.as_openai() for tool in tools])}[/AVAILABLE_TOOLS]\n"
        f'To call tools, write {TOOL_CALLS}[{{"name": "...", "arguments": {{...}}}}].'
    )


def _python_call(body: str) -> list[dict[str, Any]]:
    """The call that `name.call(a="x", b="y")` says, all texts; none where it is something else."""
    call = _PYTHON_CALL.fullmatch(body.strip())
    if call is None:
        return []
    arguments, at = {}, 0
    while at < len(call["arguments"]):
        found = _PYTHON_ARGUMENT.match(call["arguments"], at)
        if found is None:
            return []
        arguments[found[1]], at = found[2], found.end()
    return [{"name": call["name"], "arguments": arguments}]


def _named_calls(body: str) -> Iterator[Any]:
    """`name[ARGS]{...}`, or lists of calls after all."""
    name, found, arguments = body.partition(ARGS)
    if not found or name.lstrip().startswith("["):
        yield from _flat(_values(body))
        return
    for value in _values(arguments):
        is_text = isinstance(value, str)
        name = name.partition("[CALL_ID]")[0].strip()
        yield value if is_text else {"name": name, "arguments": value}


def _flat(values: Iterator[Any]) -> Iterator[Any]:
    for value in values:
        yield from value if isinstance(value, list) else [value]


def _begins_with_json(text: str) -> bool:
    try:
        _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _values(body: str) -> Iterator[Any]:
    """The JSON values of a text, one after another; what is no JSON comes last, as the text."""
    at = 0
    while (at := _after_gap(body, at)) < len(body):
        try:
            value, at = _decoder.raw_decode(body, at)
        except (ValueError, RecursionError):
            yield body[at:]
            return
        yield json.dumps(value) if isinstance(value, str) else value


def _after_gap(body: str, at: int) -> int:
    gap = _GAP.match(body, at)
    return gap.end() if gap else at


def _renamed(value: Any) -> Any:
    """A call with `parameters`, as Llama says it, with `arguments`."""
    if not isinstance(value, dict) or "parameters" not in value or "arguments" in value:
        return value
    return {("arguments" if k == "parameters" else k): v for k, v in value.items()}


def _joined(before: str, calls: Sequence[Any]) -> str:
    lines = [before.strip()] if before.strip() else []
    lines += [wrap_unreadable(c) if isinstance(c, str) else _wrap(c) for c in calls]
    return "\n".join(lines)


def _wrap(value: Any) -> str:
    try:
        return wrap(value)
    except RecursionError:
        return wrap_unreadable("nested too deeply")


def _plain(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
