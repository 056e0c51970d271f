"""The anatomy of a chat template: what it does to a conversation, found by letting it render some.

No template is recognised: whatever renders is probed, and what cannot be made exact is refused
with the place where two renders part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.envs.core import ToolSpec
from turnhalle.envs.errors import ModelError

from ..core import num_common
from .calls import PROBE_TOOLS, CallStyle, find_calls
from .growth import ANSWER, QUESTION, REMARK, Growth, assistant, call_of, tool, user
from .template import Template
from .thinking import REASON, Thinking, find_thinking

_RENDERS = 12
"""One that tosses a coin is missed once in 2,048 times."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a template does, with tools told by it or without."""

    has_system: bool
    """Does it show a system message at the start?"""
    has_late_system: bool
    """And one that comes after a turn, there?"""
    tool_after_text: bool
    """Does it show a tool's result after a turn that called none?"""
    tool_after_call: bool
    calls: CallStyle | None
    """Its own way to write tool calls."""
    thinking: Thinking
    opener: str
    """What it writes at the start of a coming turn but not into the history: `<think>` or so."""
    header: str
    """What stands before an answer in the history that the model must write itself."""
    lead_in: str
    """The opener and the `<think>` before it that stays: where what the model writes begins."""
    end: str
    """The token that ends a turn in the history."""
    last_end: str
    """The token that a model ends an answer with; nearly always the same."""
    call_end: str
    """The token that a model ends a turn of calls with."""
    is_stable: bool
    """Does every later render begin with the earlier one, thinking and all?"""
    rewrites: str | None
    """Why sampled turns cannot be appended: how the text around them changes later."""
    is_placed: bool
    """Does what it writes after a turn depend on what came before that?"""


def examine(template: Template, *, has_tools: bool) -> Anatomy:
    """Take a template apart.

    Args:
        template: Its `has_parts` is set on the way.
        has_tools: Does the template tell the model of tools?

    Raises:
        ModelError: It renders nothing, drops the model's turns, or ends them with plain text.
    """
    template.has_parts = _takes_parts(template)
    _require_repeatable(template)
    tools = PROBE_TOOLS if has_tools else ()
    end, last_end = _find_ends(template, tools)
    is_implied = end == _first_header(template, tools)
    ends = list(dict.fromkeys((last_end, end)))
    calls = find_calls(template, ends, is_implied=is_implied)
    style = calls if has_tools else None
    opener, header, lead_in = _find_opener(template, tools)
    has_system = _shows_system(template, tools)
    growth = Growth(template, tools, style, opener, has_system)
    after_text, after_call = growth.shows_tool(None), style is not None and growth.shows_tool(style)
    thinking = find_thinking(template, tools, style, lead_in)
    call_end = _find_call_end(template, style, ends, is_implied)
    rewrites = growth.find_rewrite(after_text, after_call)
    thought = thinking.probe("", "", ANSWER)[0], thinking.probe(lead_in, header, ANSWER)[1]
    is_stable = (
        rewrites is None
        and not opener
        and growth.is_stable([(assistant(ANSWER), header + ANSWER), thought], after_text)
        and growth.keeps_turns({end, last_end, call_end})
    )
    return Anatomy(
        has_system=has_system,
        has_late_system=growth.shows_late_system(),
        tool_after_text=after_text,
        tool_after_call=after_call,
        calls=calls,
        thinking=thinking,
        opener=opener,
        header=header,
        lead_in=lead_in,
        end=end,
        last_end=last_end,
        call_end=call_end,
        is_stable=is_stable,
        rewrites=rewrites,
        is_placed=rewrites is None and growth.is_placed(after_text, after_call),
    )


def _takes_parts(template: Template) -> bool:
    """Must the content of messages be a list of parts? Leaves the template as it was."""
    template.has_parts = False
    try:
        if QUESTION in template.render([user(QUESTION)]):
            return False
    except ModelError:
        shown = False
    else:
        shown = True
    template.has_parts = True
    try:
        if QUESTION in template.render([user(QUESTION)]):
            return True
    except ModelError:
        pass
    template.has_parts = False
    if shown:
        raise ModelError(f"the chat template of {template.name} drops the user's messages")
    return False


def _require_repeatable(template: Template) -> None:
    """Refuse a template that draws lots.

    Raises:
        ModelError: It does.
    """
    if len({template.render([user(QUESTION)]) for _ in range(_RENDERS)}) > 1:
        raise ModelError(
            f"the chat template of {template.name} writes the same conversation in different ways "
            "from one time to the next; nobody can say what it would feed. Give another: "
            '--set chat.chat_template="chatml" or a Jinja file'
        )


def _shows_system(template: Template, tools: Sequence[ToolSpec]) -> bool:
    system = {"role": "system", "content": REASON}
    try:
        return REASON in template.render([system, user("?")], tools)
    except ModelError:
        return False


def _find_opener(template: Template, tools: Sequence[ToolSpec]) -> tuple[str, str, str]:
    """What only a coming turn begins with, what only the history shows there, and the lead-in."""
    coming = template.render([user(QUESTION)], tools)
    messages = [user(QUESTION), assistant(ANSWER), user(REMARK)]
    past = template.render(messages, tools).partition(ANSWER)[0]
    at = num_common(coming, past)
    if QUESTION not in coming[:at]:
        return "", "", ""
    begun = coming.rfind("<think>", coming.index(QUESTION))
    return coming[at:], past[at:], coming[at if begun < 0 else min(at, begun) :]


def _find_ends(template: Template, tools: Sequence[ToolSpec]) -> tuple[str, str]:
    """The tokens that end a turn: in the history, and as the last thing that a model writes.

    Raises:
        ModelError: There is none: the template ends turns with plain text, or drops them.
    """
    question, answer = user(QUESTION), assistant(ANSWER)
    history = template.render([question, answer, user(REMARK)], tools)
    if ANSWER not in history:
        raise ModelError(f"the chat template of {template.name} drops the assistant's messages")
    eos = template.tokenizer.eos_token
    tail = history.partition(ANSWER)[2].partition(REMARK)[0]
    past = template.specials(tail)
    if not past:
        raise ModelError(
            f"the chat template of {template.name} ends a turn with plain text "
            f"({tail[:20]!r}); the model cannot end its turn by a special token there"
        )
    end = eos if eos in past else past[0]
    final = template.render([question, answer], tools, generate=False)
    last = template.specials(final.partition(ANSWER)[2])
    is_other = eos not in past and last[:1] == [eos]
    return end, eos if is_other else end


def _first_header(template: Template, tools: Sequence[ToolSpec]) -> str | None:
    """The special token right before what a user says."""
    before = template.render([user(QUESTION)], tools).partition(QUESTION)[0]
    return next(reversed(template.specials(before)), None)


def _find_call_end(
    template: Template, style: CallStyle | None, ends: Sequence[str], is_implied: bool
) -> str:
    """The token that ends a turn of calls."""
    if style is None:
        return ends[0]
    call = call_of(style)
    text = template.render([user("?"), call], PROBE_TOOLS, generate=False)
    found = template.specials(text.partition(ANSWER)[2])
    if is_implied:
        later = template.render([user("?"), call, tool("x")], PROBE_TOOLS)
        return (template.specials(later.partition(ANSWER)[2])[len(found) :] or ends)[0]
    return next((token for token in ends if token in found), found[-1] if found else ends[0])
