"""Messages as a template takes them: roles that it knows, calls in its own form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.envs.core import Message, ToolCall
from turnhalle.envs.tools.canonical import wrap

from .anatomy import Anatomy
from .calls import CallStyle, call_id
from .template import Said


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn of the model, taken apart as a server would take it apart."""

    text: str
    """As sampled, without the end token."""
    content: str
    """What was said, without thinking and calls."""
    thinking: str | None = None
    """Where the template has a field for it."""
    calls: tuple[ToolCall, ...] = ()
    """Calls that could be read, in the template's own form; else they are in the content."""

    @property
    def action(self) -> str:
        """The turn in canonical form, without thinking."""
        calls = [wrap({"name": c.name, "arguments": c.arguments}) for c in self.calls]
        return "\n".join(filter(None, [self.content, *calls]))

    @classmethod
    def probe(cls, text: str, tool: str | None, num_calls: int = 0) -> Spoken:
        """A turn to find again in a render: an answer, or calls of a tool, the last with it."""
        if not num_calls:
            return cls(text, text)
        texts = [*[""] * (num_calls - 1), text]
        calls = [ToolCall(name=tool or "tool", arguments={"key": text}) for text in texts]
        return cls(text, "", None, tuple(calls))


def as_said(
    messages: Sequence[Message | Spoken], anatomy: Anatomy, style: CallStyle | None
) -> list[Said]:
    """Express a conversation in what the template knows, users never twice in a row."""
    said: list[Said] = []
    ids: list[str] = []
    num_calls, called = 0, False
    for message in messages:
        if isinstance(message, Spoken):
            said.append(_turn(message, anatomy, style, num_calls))
            called = style is not None and bool(message.calls)
            if called:
                ids = [call_id(num_calls + i) for i in range(len(message.calls))]
                num_calls += len(message.calls)
            continue
        role: str = message.role
        knows_tool = anatomy.tool_after_call if called else anatomy.tool_after_text
        knows_rules = anatomy.has_late_system if said else anatomy.has_system
        if (role == "system" and not knows_rules) or (role == "tool" and not knows_tool):
            role = "user"
        if role == "user" and said and said[-1]["role"] == "user":
            said[-1] = {**said[-1], "content": f"{said[-1]['content']}\n{message.content}"}
            continue
        said.append({"role": role, **message.model_dump(exclude_none=True, exclude={"role"})})
        if role == "tool" and called:
            said[-1]["tool_call_id"] = ids.pop(0) if len(ids) > 1 else ids[0]
    return said


def _turn(spoken: Spoken, anatomy: Anatomy, style: CallStyle | None, first: int) -> Said:
    if style is not None and spoken.calls:
        said = style.said(spoken.content, spoken.calls, first)
    else:
        said = {"role": "assistant", "content": spoken.content}
    field = anatomy.thinking.field
    return said if field is None or spoken.thinking is None else {**said, field: spoken.thinking}
