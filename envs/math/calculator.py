"""The calculator: one tool, exact, with a grammar of its own."""

from __future__ import annotations

from ..core import Message, Reply, ToolCall, ToolSpec
from ..tools.formats import parse_action
from .grammar import GrammarError
from .rationals import calculate

MAX_CALLS = 16
"""Calls in one turn; more are refused."""

CALCULATOR = ToolSpec(
    name="calculate",
    description=(
        "The exact value of an expression of numbers: + - * / ^ ( ), and "
        "abs(a), floor(a), gcd(a,b), lcm(a,b), mod(a,b), sqrt(a)"
    ),
    parameters={
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
)


def use_calculator(action: str) -> Reply:
    """The results of an action's calls; what is wrong with a call is said in its result."""
    parsed = parse_action(action)
    messages = [_answer(call) for call in parsed.calls[:MAX_CALLS]]
    problems = list(parsed.problems)
    if len(parsed.calls) > MAX_CALLS:
        problems.append(f"at most {MAX_CALLS} calls in one turn")
    messages += [Message(role="tool", content=f"error: {problem}") for problem in problems]
    return Reply("\n".join(message.content for message in messages), messages=tuple(messages))


def _answer(call: ToolCall) -> Message:
    return Message(role="tool", name=call.name, content=_result(call))


def _result(call: ToolCall) -> str:
    if call.name != CALCULATOR.name:
        return f"error: no tool {call.name[:40]!a}; tools: {CALCULATOR.name}"
    expression = call.arguments.get("expression")
    if isinstance(expression, int) and not isinstance(expression, bool):
        expression = str(expression)
    if not isinstance(expression, str) or len(call.arguments) > 1:
        return "error: calculate takes one argument, expression, without spaces or in quotes"
    try:
        return str(calculate(expression))
    except GrammarError as error:
        return f"error: {error}"
