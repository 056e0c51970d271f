"""The anatomy of a chat template: what it does to a conversation, found by letting it render some.

No template is recognised: whatever renders is probed, and what cannot be made exact is refused
with the place where two renders part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnhalle.envs.core import ToolCall, ToolSpec
from turnhalle.envs.errors import ModelError

from ..core import num_common
from .calls import PROBE_TOOLS, CallStyle, call_id, find_calls
from .template import Said, Template
from .thinking import REASON, Thinking, find_thinking

ANSWER = "ANSWER-3f8a"
_QUESTION, _REMARK = "QUESTION-71c4", "REMARK-52e9"
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a template does, with tools told by it or without."""

    has_system: bool
    """Does it show system messages?"""
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


def examine(template: Template, *, has_tools: bool) -> Anatomy:
    """Take a template apart.

    Args:
        template: Its `has_parts` is set on the way.
        has_tools: Does the template tell the model of tools?

    Raises:
        ModelError: It renders nothing, drops the model's turns, or ends them with plain text.
    """
    template.has_parts = _takes_parts(template)
    tools = PROBE_TOOLS if has_tools else ()
    end, last_end = _find_ends(template, tools)
    is_implied = end == _first_header(template, tools)
    ends = list(dict.fromkeys((last_end, end)))
    calls = find_calls(template, ends, is_implied=is_implied)
    style = calls if has_tools else None
    opener, header, lead_in = _find_opener(template, tools)
    probe = _Probe(template, tools, style, opener)
    after_text, after_call = probe.shows_tool(None), style is not None and probe.shows_tool(style)
    thinking = find_thinking(template, tools, style, lead_in)
    rewrites = probe.find_rewrite(after_text, after_call)
    texts = (header + ANSWER, thinking.probe(lead_in, header, ANSWER)[1])
    turns = list(zip((assistant(ANSWER), thinking.probe("", "", ANSWER)[0]), texts, strict=True))
    return Anatomy(
        has_system=_shows_system(template, tools),
        tool_after_text=after_text,
        tool_after_call=after_call,
        calls=calls,
        thinking=thinking,
        opener=opener,
        header=header,
        lead_in=lead_in,
        end=end,
        last_end=last_end,
        call_end=_find_call_end(template, style, ends, is_implied),
        is_stable=rewrites is None and not opener and probe.is_stable(turns, after_text),
        rewrites=rewrites,
    )


def user(text: str) -> Said:
    """A user's message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Said:
    """A turn of the model."""
    return {"role": "assistant", "content": text}


def tool(text: str, name: str = PROBE_TOOLS[0].name) -> Said:
    """A tool's result."""
    return {"role": "tool", "content": text, "name": name, "tool_call_id": call_id(0)}


def parting(before: str, after: str) -> str:
    """Where two renders part, in words."""
    at = num_common(before, after)
    here, there = after[max(0, at - 20) : at + 20], before[max(0, at - 20) : at + 20]
    return f"a later render reads {here!r} where the earlier one read {there!r}"


@dataclass(frozen=True, slots=True)
class _Probe:
    """Conversations that grow, to see whether what was rendered stays."""

    template: Template
    tools: Sequence[ToolSpec]
    calls: CallStyle | None
    opener: str

    def shows_tool(self, style: CallStyle | None) -> bool:
        """Does the template show a tool's result after an answer, or after a call?"""
        try:
            return _REMARK in self._render([user("?"), self._turn(style), tool(_REMARK)])
        except ModelError:
            return False

    def find_rewrite(self, after_text: bool, after_call: bool) -> str | None:
        """How the text around the model's turns changes as the conversation goes on, if it does."""
        kinds: list[tuple[CallStyle | None, Said]] = [(None, user(_REMARK))]
        kinds += [(None, tool(_REMARK))] if after_text else []
        kinds += [(self.calls, tool(_REMARK))] if after_call else []
        for style, reply in kinds:
            try:
                for before, after in self._growth(style, reply):
                    if not after.startswith(before.removesuffix(self.opener)):
                        return parting(before, after)
            except ModelError as error:
                return str(error)
        return None

    def is_stable(self, turns: Sequence[tuple[Said, str]], after_text: bool) -> bool:
        """Do renders stay as they were, thinking included? Turns come as messages and as text."""
        for reply in [user(_REMARK), *([tool(_REMARK)] if after_text else [])]:
            for turn, text in turns:
                history = [user(_QUESTION)]
                for _ in range(_ROUNDS):
                    before = self._render(history) + text
                    history += [turn, reply]
                    if not self._render(history).startswith(before):
                        return False
        return True

    def _growth(self, style: CallStyle | None, reply: Said) -> Iterator[tuple[str, str]]:
        """What stands before a turn as it is written, and before it later, as pieces."""
        history = [user(_QUESTION)]
        pieces = [self._render(history)]
        for _ in range(_ROUNDS):
            history += [self._turn(style), reply]
            later = self._render(history).split(ANSWER)
            yield from zip(pieces, later, strict=False)
            pieces = later

    def _turn(self, style: CallStyle | None) -> Said:
        if style is None:
            return assistant(ANSWER)
        arguments = {"count": 1, "fruit": ANSWER, "more": "x"}
        return style.said("", [ToolCall(name=PROBE_TOOLS[0].name, arguments=arguments)])

    def _render(self, messages: Sequence[Said]) -> str:
        return self.template.render(messages, self.tools)


def _takes_parts(template: Template) -> bool:
    """Must the content of messages be a list of parts? Leaves the template as it was."""
    template.has_parts = False
    try:
        if _QUESTION in template.render([user(_QUESTION)]):
            return False
    except ModelError:
        shown = False
    else:
        shown = True
    template.has_parts = True
    try:
        if _QUESTION in template.render([user(_QUESTION)]):
            return True
    except ModelError:
        pass
    template.has_parts = False
    if shown:
        raise ModelError(f"the chat template of {template.name} drops the user's messages")
    return False


def _shows_system(template: Template, tools: Sequence[ToolSpec]) -> bool:
    system = {"role": "system", "content": REASON}
    try:
        return REASON in template.render([system, user("?")], tools)
    except ModelError:
        return False


def _find_opener(template: Template, tools: Sequence[ToolSpec]) -> tuple[str, str, str]:
    """What only a coming turn begins with, what only the history shows there, and the lead-in."""
    coming = template.render([user(_QUESTION)], tools)
    messages = [user(_QUESTION), assistant(ANSWER), user(_REMARK)]
    past = template.render(messages, tools).partition(ANSWER)[0]
    at = num_common(coming, past)
    if _QUESTION not in coming[:at]:
        return "", "", ""
    begun = coming.rfind("<think>", coming.index(_QUESTION))
    return coming[at:], past[at:], coming[at if begun < 0 else min(at, begun) :]


def _find_ends(template: Template, tools: Sequence[ToolSpec]) -> tuple[str, str]:
    """The tokens that end a turn: in the history, and as the last thing that a model writes.

    Raises:
        ModelError: There is none: the template ends turns with plain text, or drops them.
    """
    question, answer = user(_QUESTION), assistant(ANSWER)
    history = template.render([question, answer, user(_REMARK)], tools)
    if ANSWER not in history:
        raise ModelError(f"the chat template of {template.name} drops the assistant's messages")
    eos = template.tokenizer.eos_token
    tail = history.partition(ANSWER)[2].partition(_REMARK)[0]
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
    before = template.render([user(_QUESTION)], tools).partition(_QUESTION)[0]
    return next(reversed(template.specials(before)), None)


def _find_call_end(
    template: Template, style: CallStyle | None, ends: Sequence[str], is_implied: bool
) -> str:
    """The token that ends a turn of calls."""
    if style is None:
        return ends[0]
    arguments = {"count": 1, "fruit": ANSWER, "more": "x"}
    call = style.said("", [ToolCall(name=PROBE_TOOLS[0].name, arguments=arguments)])
    text = template.render([user("?"), call], PROBE_TOOLS, generate=False)
    found = template.specials(text.partition(ANSWER)[2])
    if is_implied:
        later = template.render([user("?"), call, tool("x")], PROBE_TOOLS)
        return (template.specials(later.partition(ANSWER)[2])[len(found) :] or ends)[0]
    return next((token for token in ends if token in found), found[-1] if found else ends[0])
