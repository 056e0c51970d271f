"""How a template writes thinking down, and how to take it out of what a model wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.envs.core import ToolCall, ToolSpec
from turnhalle.envs.errors import ModelError

from .calls import PROBE_TOOLS, CallStyle
from .template import Said, Template

REASON = "REASON-8b6d"
_ANSWER = "ANSWER-3f8a"
_FIELDS = ("reasoning_content", "thinking", "reasoning")
_TAGS = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Thinking:
    """The field of a message that thinking goes into, and the text around it.

    Without a field thinking stays in the content, between `<think>` tags.
    """

    field: str | None = None
    opening: str = "<think>\n"
    closings: tuple[str, ...] = ("\n</think>\n\n",)
    """What follows it before an answer, and before calls; longest first."""

    def split(self, text: str) -> tuple[str | None, str]:
        """Thinking, where there is any, and what was said; of thinking without end all is that."""
        if self.field is None:
            return None, text
        opening = self.opening.strip()
        for closing in self.closings:
            before, found, after = text.rpartition(closing.strip())
            if found:
                return before.lstrip().removeprefix(opening).strip("\n"), after.lstrip("\n")
        if text.lstrip().startswith(opening):
            return text.lstrip().removeprefix(opening).strip("\n"), ""
        return None, text

    def strip(self, text: str) -> str:
        """What was said, without thinking."""
        return _TAGS.sub("", self.split(text)[1]).strip()

    def probe(self, lead_in: str, header: str, answer: str) -> tuple[Said, str]:
        """A turn with thinking in it: as a message, and as a model goes on after the lead-in."""
        text = f"{self.opening}{REASON}{self.closings[0]}{answer}"
        if self.field is None:
            return {"role": "assistant", "content": text}, header + text
        said = {"role": "assistant", "content": answer, self.field: REASON}
        return said, text.removeprefix(lead_in)


def find_thinking(
    template: Template, tools: Sequence[ToolSpec], calls: CallStyle | None, lead_in: str
) -> Thinking:
    """Where the template takes thinking, by letting it write some."""
    user = {"role": "user", "content": "?"}
    prompt = template.render([user], tools).removesuffix(lead_in)
    for field in _FIELDS:
        turn = {"role": "assistant", "content": _ANSWER, field: REASON}
        text = _render(template, [user, turn], tools)
        if not text.startswith(prompt) or not 0 < text.find(REASON) < text.find(_ANSWER):
            continue
        opening, _, rest = text[len(prompt) :].partition(REASON)
        closings = [rest[: rest.index(_ANSWER)]]
        if calls is not None:
            closings += _before_calls(template, calls, field)
        if all(closing.strip() for closing in (opening, *closings)):
            longest = sorted(dict.fromkeys(closings), key=lambda c: -len(c))
            return Thinking(field, opening, tuple(longest))
    return Thinking()


def _before_calls(template: Template, calls: CallStyle, field: str) -> list[str]:
    """What stands between thinking and a call."""
    user = {"role": "user", "content": "?"}
    call = ToolCall(name=PROBE_TOOLS[0].name, arguments={"count": 1, "fruit": "x", "more": "x"})
    prompt = template.render([user], PROBE_TOOLS)
    bare = _render(template, [user, calls.said("", [call])], PROBE_TOOLS)
    whole = _render(template, [user, calls.said("", [call]) | {field: REASON}], PROBE_TOOLS)
    _, found, rest = whole.partition(REASON)
    if not found:
        return []
    # The two renders end alike, with the call; what is left of the rest stood before it.
    written = bare[len(prompt) :] if bare.startswith(prompt) else ""
    between = rest.removesuffix(written) if written else ""
    return [between] if between.strip() and between != rest else []


def _render(template: Template, messages: Sequence[Said], tools: Sequence[ToolSpec]) -> str:
    try:
        return template.render(messages, tools, generate=False)
    except ModelError:
        return ""
