"""Random conversations, and a server that is told them: the oracle of what should be fed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from turnhalle.agents.chat import Chat, Conversation
from turnhalle.envs.core import Message, ToolCall, ToolSpec
from turnhalle.envs.tools.canonical import parse_action

WORDS = ("pear", "fig", "seven", "why?", "naïve ☃", "a\nb", "{}", '"quoted"', "it's \\ so")
TOOLS = [
    ToolSpec(
        name=name,
        description=f"Looks up a {name}.",
        parameters={
            "type": "object",
            "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
            "required": ["item"],
        },
    )
    for name in ("price", "stock")
]


class Deployed:
    """A client that speaks to a server of the model: it keeps messages, and renders them."""

    def __init__(self, chat: Chat, tools: list[ToolSpec], **variables: Any) -> None:
        self.chat, self.tokenizer, self.variables = chat, chat.tokenizer, variables
        self.tools = [tool.as_openai() for tool in tools] or None
        self.messages: list[dict[str, Any]] = []
        self.num_calls = 0
        self.waiting: list[str] = []

    def hear(self, role: str, text: str, name: str | None = None) -> None:
        anatomy = self.chat._anatomy(TOOLS if self.tools else [])
        called = bool(self.messages) and "tool_calls" in self.messages[-1]
        knows_tool = anatomy.tool_after_call if called else anatomy.tool_after_text
        if (role == "tool" and not knows_tool) or (role == "system" and not anatomy.has_system):
            role = "user"
        if role == "user" and self.messages and self.messages[-1]["role"] == "user":
            self.messages[-1]["content"] += "\n" + text
            return
        said: dict[str, Any] = {"role": role, "content": text}
        if role == "tool":
            made = self.waiting.pop(0) if self.waiting else f"call{self.num_calls - 1:05d}"
            said |= {"name": name, "tool_call_id": made}
        self.messages.append(said)

    def say(self, text: str, thought: str | None, call: tuple[str, Any] | None) -> list[int]:
        """Take a turn; the ids that a model would sample for it."""
        anatomy, calls = self.chat._anatomy(TOOLS if self.tools else []), self.chat._calls
        said: dict[str, Any] = {"role": "assistant", "content": text}
        if call is not None:
            assert calls is not None
            function = {"name": call[0], "arguments": call[1]}
            listed = {"id": f"call{self.num_calls:05d}", "type": "function", "function": function}
            said = {"role": "assistant", "content": "", "tool_calls": [listed]}
            self.num_calls += 1
        before = self.render(True)
        if before.endswith("</think>\n\n"):  # who is led past it does not think
            thought = None
        field = anatomy.thinking.field
        if thought is not None and field is not None:
            said[field] = thought
        lead_in = next((s for s in ("<think>\n", "<think>") if before.endswith(s)), "")
        if field is not None and lead_in and thought is None:
            said[field] = "hm"  # who is led into thinking thinks
        if field is None and call is None and (thought is not None or lead_in):
            whole = f"<think>\n{thought or ''}\n</think>\n\n{text}"
            said["content"] = whole.removeprefix(lead_in)
        self.messages.append(said)
        question = [{"role": "user", "content": "?"}]
        prompt, written = self.render(True, question), self.render(False, [*question, said])
        end = anatomy.call_end if call is not None else anatomy.last_end
        if lead_in and field is None:  # the template drops it even from the last turn
            written = said["content"] + end
        else:
            assert written.startswith(prompt)
            written = written[len(prompt) :]
        written = written[: written.rindex(end)] + end if end in written else written + end
        ids: list[int] = self.tokenizer.encode(written, add_special_tokens=False)
        return ids

    def take(self, text: str, calls: Sequence[ToolCall]) -> None:
        """Take a turn that may call several tools."""
        said: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            style = self.chat._calls
            assert style is not None
            said = style.said(text, calls, self.num_calls)
            self.num_calls += len(calls)
        self.messages.append(said)
        self.waiting = [call["id"] for call in said.get("tool_calls", [])]

    def fed(self) -> list[int]:
        rendered = self.render(True)
        ids: list[int] = self.tokenizer.encode(rendered, add_special_tokens=False)
        return ids

    def render(self, generate: bool, messages: list[dict[str, Any]] | None = None) -> str:
        parts = self.chat.template.has_parts
        said = [
            {**m, "content": [{"type": "text", "text": m["content"]}]} if parts else m
            for m in messages or self.messages
        ]
        text: str = self.tokenizer.apply_chat_template(
            said, self.tools, tokenize=False, add_generation_prompt=generate, **self.variables
        )
        return text


def play(
    chat: Chat, rng: random.Random, tools: list[ToolSpec], thinks: bool, **variables: Any
) -> int:
    """A random conversation, checked after every turn; the number of branches."""
    server = Deployed(chat, tools, **variables)
    opening = [Message(role="system", content="Be brief.")] if rng.random() < 0.7 else []
    opening.append(Message(role="user", content=rng.choice(WORDS)))
    for message in opening:
        server.hear(message.role, message.content)
    talk = Conversation(chat, opening, tools)
    assert talk.context == server.fed()
    for _ in range(rng.randint(2, 5)):
        thought = rng.choice(WORDS) if thinks and rng.random() < 0.7 else None
        call = None
        if tools and rng.random() < 0.6:
            call = (
                rng.choice(TOOLS).name,
                {"item": rng.choice(WORDS), "count": rng.randint(-9, 9)},
            )
        answer = rng.choice(WORDS)
        ids = server.say(answer, thought, call)
        action = talk.add(ids, [-0.5] * len(ids), 1)
        if call is None:
            assert action == answer
        else:
            assert action is not None
            assert parse_action(action).calls == [ToolCall(name=call[0], arguments=call[1])]
        segments = talk.take_segments()
        assert [s.token_ids for s in segments if s.is_sampled] == [ids]
        if call is not None:
            answers = [Message(role="tool", name=call[0], content=rng.choice(WORDS))]
        else:
            answers = [Message(role="user", content=rng.choice(WORDS))]
        for message in answers:
            server.hear(message.role, message.content, message.name)
        talk.observe(answers)
        if chat.history == "as-template" or not thinks:
            assert talk.context == server.fed()
    assert not talk.drift["unrenderable"]
    return talk.drift["branches"]
