"""Conversations that grow: does what a template wrote stay as it was, wherever it stands?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from turnhalle.envs.core import ToolCall, ToolSpec
from turnhalle.envs.errors import ModelError

from ..core import num_common
from .calls import PROBE_TOOLS, CallStyle, call_id
from .template import Said, Template

ANSWER, QUESTION, REMARK = "ANSWER-3f8a", "QUESTION-71c4", "REMARK-52e9"
_ODD = (
    f"{ANSWER} <b>bold</b> & \"quoted\" 'so' {{x}} {{{{ y }}}} \\n\n\n\ttab  naïve ☃ "
    f"{'pear ' * 100}end."
)
"""What models say: markup, blank lines, more than a few words."""
_ROUNDS = 3

_Exchange = tuple[CallStyle | None, str]
"""How a turn is made (an answer, or a call in some style), and the role that answers it."""


@dataclass(frozen=True, slots=True)
class Growth:
    """A template, to which conversations are told turn by turn."""

    template: Template
    tools: Sequence[ToolSpec]
    calls: CallStyle | None
    opener: str
    has_system: bool

    def shows_tool(self, style: CallStyle | None) -> bool:
        """Does the template show a tool's result after an answer, or after a call?"""
        try:
            return REMARK in self._render([user("?"), self._turn(style), tool(REMARK)])
        except ModelError:
            return False

    def shows_late_system(self) -> bool:
        """Does it show a system message after a turn, as it would a user's?"""
        rules = {"role": "system", "content": REMARK}
        try:
            text = self._render([user("?"), assistant(ANSWER), rules])
            asked = self._render([user("?"), assistant(ANSWER), user("?"), rules, user("?")])
        except ModelError:
            return False
        return REMARK in text.partition(ANSWER)[2] and REMARK in asked.partition(ANSWER)[2]

    def find_rewrite(self, after_text: bool, after_call: bool) -> str | None:
        """How the text around the model's turns changes as the conversation goes on, if it does."""
        for exchanges in self._exchanges(after_text, after_call):
            try:
                growth = list(self._grow(self._openings()[0], exchanges))
            except ModelError as error:
                return str(error)
            for number, later in enumerate(growth):
                if len(later) != number + 1:
                    return f"it writes a turn {len(later) - 1} times where {number} were said"
            for before, after in pairwise(growth):
                for earlier, piece in zip(before, after, strict=False):
                    if not piece.startswith(earlier.removesuffix(self.opener)):
                        return parting(earlier, piece)
        return None

    def is_placed(self, after_text: bool, after_call: bool) -> bool:
        """Does what it writes after a turn depend on what came before, or on the ids of calls?

        DeepSeek opens the list of results at the first of a conversation only; others count.
        """
        kinds = self._exchanges(after_text, after_call)
        kinds += [[(None, "user"), (self.calls, "tool")]] if after_call else []
        for exchanges in kinds:
            found: dict[int, str] = {}
            for opening in self._openings():
                *_, pieces = self._grow(opening, exchanges)
                for number, piece in enumerate(pieces[1:-1]):
                    if found.setdefault(number % len(exchanges), piece) != piece:
                        return True
        return False

    def is_stable(self, turns: Sequence[tuple[Said, str]], after_text: bool) -> bool:
        """Do renders stay as they were, thinking included? Turns come as messages and as text."""
        for reply in [user(REMARK), *([tool(REMARK)] if after_text else [])]:
            for turn, text in turns:
                history = [user(QUESTION)]
                for _ in range(_ROUNDS):
                    before = self._render(history) + text
                    history += [turn, reply]
                    if not self._render(history).startswith(before):
                        return False
        return True

    def keeps_turns(self, ends: set[str]) -> bool:
        """Do answers and calls, one after the other, stay as they were and as they were said?"""
        exchanges = [(assistant(_ODD), user(REMARK))]
        if self.calls is not None:
            exchanges.append((call_of(self.calls), tool(REMARK)))
        history = [user(QUESTION)]
        for turn, reply in exchanges * _ROUNDS:
            history.append(turn)
            said = self.template.render(history, self.tools, generate=False)
            if turn["content"] and turn["content"] not in said:
                return False
            history.append(reply)
            if not self._render(history).startswith(said[: max(map(said.rfind, ends))]):
                return False
        return True

    def _exchanges(self, after_text: bool, after_call: bool) -> list[list[_Exchange]]:
        """What conversations are made of: one kind of turn and answer each."""
        kinds: list[list[_Exchange]] = [[(None, "user")]]
        kinds += [[(None, "tool")]] if after_text else []
        kinds += [[(self.calls, "tool")]] if after_call else []
        return kinds

    def _openings(self) -> list[list[Said]]:
        question = user(QUESTION)
        rules = {"role": "system", "content": REMARK}
        return [[question], [rules, question]] if self.has_system else [[question]]

    def _grow(self, opening: list[Said], exchanges: Sequence[_Exchange]) -> Iterator[list[str]]:
        """What stands before, between and after the turns, as they come; calls are numbered."""
        history, num_calls = opening, 0
        yield self._render(history).split(ANSWER)
        for style, role in [*exchanges] * _ROUNDS:
            reply = user(REMARK) if role == "user" else tool(REMARK, num_calls)
            turn = assistant(ANSWER) if style is None else call_of(style, num_calls)
            num_calls += style is not None
            history = [*history, turn, reply]
            yield self._render(history).split(ANSWER)

    def _turn(self, style: CallStyle | None) -> Said:
        return assistant(ANSWER) if style is None else call_of(style)

    def _render(self, messages: Sequence[Said]) -> str:
        return self.template.render(messages, self.tools)


def user(text: str) -> Said:
    """A user's message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Said:
    """A turn of the model."""
    return {"role": "assistant", "content": text}


def tool(text: str, number: int = 0) -> Said:
    """The result of a call."""
    name = PROBE_TOOLS[0].name
    return {"role": "tool", "content": text, "name": name, "tool_call_id": call_id(number)}


def call_of(style: CallStyle, number: int = 0) -> Said:
    """A turn that calls a tool."""
    arguments = {"count": 1, "fruit": ANSWER, "more": "x"}
    return style.said("", [ToolCall(name=PROBE_TOOLS[0].name, arguments=arguments)], number)


def parting(before: str, after: str) -> str:
    """Where two renders part, in words."""
    at = num_common(before, after)
    here, there = after[max(0, at - 20) : at + 20], before[max(0, at - 20) : at + 20]
    return f"a later render reads {here!r} where the earlier one read {there!r}"
