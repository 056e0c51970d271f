"""Conversations to tokens: the only module that knows chat templates and owns token ids.

Sampled tokens are never tokenised again. What a template puts around them is derived by rendering
a conversation with a placeholder in the model's place; that works for templates whose history is
*prefix-stable*: a later render begins with the earlier one. Others are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from turnhalle.envs.core import Message, ToolSpec
from turnhalle.envs.errors import ConfigError, ModelError, unknown_name
from turnhalle.envs.tools.formats import FORMATS, describe, from_canonical, to_canonical

from .models import load_tokenizer, read_settings

PLACEHOLDER = "PLACEHOLDER-3f8a"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A plain template for models without one, or whose own is not prefix-stable."""

_THINKING = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_PROBES = ("A plain answer.", "<think>\nWhy?\n</think>\n\nBecause.")


class ChatOptions(BaseModel):
    """How a model is spoken to; what is None is as the model's folder says in `turnhalle.json`."""

    model_config = ConfigDict(extra="forbid")

    system_prompt: str | None = None
    """Replaces the environment's rules; an empty text leaves them out."""
    chat_template: str | None = None
    """A Jinja file, or "chatml", in place of the tokenizer's own."""
    tool_format: str | None = None
    """How the model writes tool calls: "hermes" (if nothing else is said), "llama3", "mistral" or
    "compact"."""

    def over(self, settings: dict[str, Any]) -> ChatOptions:
        """These options, completed by the settings of a model's folder.

        Raises:
            ModelError: The settings hold an unknown key.
        """
        known = {k: v for k, v in settings.items() if k in type(self).model_fields}
        if unknown := settings.keys() - known.keys():
            raise ModelError(f"turnhalle.json of the model: unknown {', '.join(sorted(unknown))}")
        return ChatOptions(**(known | self.model_dump(exclude_none=True)))


class Chat:
    """Renders conversations for one tokenizer, token-exactly.

    Raises:
        ModelError: The tokenizer has no chat template, or one that is not prefix-stable.
    """

    def __init__(self, tokenizer: Any, options: ChatOptions, name: str = "the model") -> None:
        self.options = options
        self.tool_format = options.tool_format or "hermes"
        if self.tool_format not in FORMATS:
            raise unknown_name("tool_format", self.tool_format, FORMATS)
        self.tokenizer = tokenizer
        self._name = name
        if options.chat_template is not None:
            tokenizer.chat_template = _read_template(options.chat_template)
        if not tokenizer.chat_template:
            raise ModelError(
                f"{name} has no chat template. Give one: "
                '--set chat.chat_template="chatml" or a Jinja file.'
            )
        self._told: dict[tuple[str, ...], bool] = {}
        self._has_system = self._can_render("system")
        self._has_tool_role = self._can_render("tool")
        self._check_prefix_stable()
        self._turn_end = self._find_turn_end()
        self.stop_ids = frozenset({self._turn_end, *_eos_ids(tokenizer)})
        self._tail = lru_cache(maxsize=65536)(self._render_tail)

    def prompt(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Token ids of the first prompt, up to where the model begins to write."""
        by_template = self._renders_tools(tools)
        system = self._system(messages, () if by_template else tools)
        others = [message for message in messages if message.role != "system"]
        conversation = self._adapt([*system, *others])
        return self._encode(self._render(conversation, tools if by_template else ()))

    def continuation(self, sampled: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """Token ids between a sampled turn and the next: its end, the new messages, the header.

        Args:
            sampled: `[C]` the turn as sampled, with its stop token where it has one.
            messages: What the environment answered.
        """
        tail = self._tail(tuple(messages))
        ended = bool(sampled) and sampled[-1] == self._turn_end
        return list(tail[1:] if ended else tail)

    def read(self, sampled: Sequence[int], tools: Sequence[ToolSpec]) -> str:
        """The action of a sampled turn, in canonical form: without stop token and thinking."""
        ids = list(sampled)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        text = self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return to_canonical(_THINKING.sub("", text).strip(), self.tool_format, tools)

    def write(self, action: str, tools: Sequence[ToolSpec]) -> list[int]:
        """Token ids of a canonical action as the model would write it, its end included."""
        text = from_canonical(action, self.tool_format, tools)
        return [*self._encode(text), self._turn_end]

    def _system(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Message]:
        """The system message: the caller's or the environment's, and the tools to be told in it."""
        rules = "\n".join(m.content for m in messages if m.role == "system")
        if self.options.system_prompt is not None:
            rules = self.options.system_prompt
        if tools and self.options.system_prompt != "":
            rules = "\n\n".join(filter(None, [rules, describe(tools, self.tool_format)]))
        return [Message(role="system", content=rules)] if rules else []

    def _adapt(self, messages: Sequence[Message]) -> list[Message]:
        """Express messages in the roles that the template knows, users never twice in a row."""
        adapted: list[Message] = []
        for message in messages:
            role = message.role
            if (role == "system" and not self._has_system) or (
                role == "tool" and not self._has_tool_role
            ):
                role = "user"
            if role == "user" and adapted and adapted[-1].role == "user":
                content = f"{adapted.pop().content}\n{message.content}"
                adapted.append(Message(role="user", content=content))
            else:
                adapted.append(message.model_copy(update={"role": role}))
        return adapted

    def _render(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                [m.model_dump(exclude_none=True) for m in messages],
                tools=[tool.as_openai() for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # templates raise whatever they like
            roles = ", ".join(m.role for m in messages)
            raise ModelError(
                f"the chat template of {self._name} cannot render a conversation of {roles}: "
                f"{error}"
            ) from error
        return rendered

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _render_tail(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        opening = [
            Message(role="user", content="?"),
            Message(role="assistant", content=PLACEHOLDER),
        ]
        text = self._render(self._adapt([*opening, *messages]))
        _, found, tail = text.partition(PLACEHOLDER)
        if not found:
            raise ModelError(f"the chat template of {self._name} drops the assistant's messages")
        return tuple(self._encode(tail))

    def _renders_tools(self, tools: Sequence[ToolSpec]) -> bool:
        """Does the template tell the model what tools there are, in the format we read?"""
        if not tools or self.tool_format != "hermes":
            return False
        names = tuple(tool.name for tool in tools)
        if names not in self._told:
            rendered = self._render([Message(role="user", content="?")], tools)
            self._told[names] = "<tool_call>" in rendered and all(n in rendered for n in names)
        return self._told[names]

    def _can_render(self, role: Any) -> bool:
        """Does the template show messages of this role?"""
        user = Message(role="user", content="?")
        probe = Message(role=role, content=PLACEHOLDER)
        answer = Message(role="assistant", content="!")
        conversation = [probe, user] if role == "system" else [user, answer, probe]
        try:
            return PLACEHOLDER in self._render(conversation)
        except ModelError:
            return False

    def _check_prefix_stable(self) -> None:
        """Render growing conversations: each must begin with the one before, sampled text and all.

        Raises:
            ModelError: Shows where two renders part.
        """
        user, tool = (Message(role=role, content="seen") for role in ("user", "tool"))
        # Some templates rewrite what came before a user's message, but not before a tool's.
        for second in [user, *([tool] if self._has_tool_role else [])]:
            for answer in _PROBES:
                history = [Message(role="user", content="?")]
                for _ in range(3):
                    before = self._render(history) + answer
                    history += [Message(role="assistant", content=answer), second]
                    after = self._render(history)
                    if not after.startswith(before):
                        raise ModelError(self._unstable(before, after))

    def _unstable(self, before: str, after: str) -> str:
        at = next(
            (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(after)
        )
        return (
            f"the chat template of {self._name} is not prefix-stable: it rewrites the history, so "
            "tokens that were sampled would not be the tokens that are trained. A later render "
            f"reads {after[max(0, at - 20) : at + 20]!r} where the earlier one read "
            f"{before[max(0, at - 20) : at + 20]!r}. Give a stable one: "
            '--set chat.chat_template="chatml" or a Jinja file.'
        )

    def _find_turn_end(self) -> int:
        tail = self._render_tail((Message(role="user", content="!"),))
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        if tail[0] not in special:
            raise ModelError(
                f"the chat template of {self._name} ends a turn with plain text "
                f"({self.tokenizer.decode(tail[:3])!r}); the model cannot end its turn by a "
                "special token there"
            )
        return tail[0]


def load_chat(name: str, options: ChatOptions) -> Chat:
    """The chat of a model, by the options given and its folder's settings; reads no weights.

    Raises:
        ModelError: No such model, or one that cannot be spoken to token-exactly.
    """
    return Chat(load_tokenizer(name), options.over(read_settings(name)), name)


def _eos_ids(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _read_template(name: str) -> str:
    if name == "chatml":
        return CHATML
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f'chat_template: no file {name!r}; give a Jinja file or "chatml"')
    return path.read_text(encoding="utf-8")
