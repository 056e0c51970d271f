"""A chat: conversations to the tokens of one tokenizer, and sampled tokens to actions.

Sampled tokens are never tokenised again. What a template puts around them is found by rendering a
conversation with an answer in the model's place and taking what stands around it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from typing import Any

from turnhalle.envs.core import Message, ToolSpec
from turnhalle.envs.errors import ModelError, unknown_name
from turnhalle.envs.tools.canonical import parse_action
from turnhalle.envs.tools.formats import FORMATS, describe, from_canonical, to_canonical

from ..core import num_common
from .anatomy import Anatomy, examine
from .calls import CallStyle
from .growth import ANSWER, assistant, user
from .messages import Spoken, as_said
from .options import ChatOptions, HistoryKind
from .template import PLAIN, Said, Template, read_template

_SHORT = 1000
"""Characters; longer answers hardly ever come again, so their tokens are not kept."""

_anatomies: dict[object, tuple[bool, Anatomy]] = {}
"""What is known of templates, by template, tokenizer and variables."""


class Chat:
    """Renders conversations for one tokenizer, token-exactly.

    Raises:
        ConfigError: Options that mean nothing.
        ModelError: A template that cannot be made exact, with the reason.
    """

    def __init__(self, tokenizer: Any, options: ChatOptions, name: str = "the model") -> None:
        options.check()
        if options.tool_format is not None and options.tool_format not in FORMATS:
            raise unknown_name("tool_format", options.tool_format, FORMATS)
        self.options, self.tokenizer = options, tokenizer
        if options.chat_template is not None:
            tokenizer.chat_template = read_template(options.chat_template)
        elif not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN
        date = options.date or datetime.date.today()
        self.template = Template(tokenizer, name, options.template_options or {}, date)
        self._date = date
        self._plain = self._examine(has_tools=False)
        self._calls = self._own_calls()
        self._tooled = self._plain
        if self._calls is not None or self._tells_hermes():
            self._tooled = self._examine(has_tools=True)
        self.history: HistoryKind = options.history or self._default_history()
        if self.history != "as-template":
            self._require_append(self._plain)
        tokens = {a.last_end for a in self._anatomies} | {a.call_end for a in self._anatomies}
        self._last_ends = frozenset(map(self._id, tokens | {a.end for a in self._anatomies}))
        eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self.stop_ids = frozenset([*map(self._id, tokens), *eos])
        self._tail = lru_cache(maxsize=8192)(self._render_tail)
        self._last_prompt: tuple[list[Message | Spoken], list[ToolSpec], list[int]] | None = None
        self._specs: dict[tuple[str, ...], tuple[ToolSpec, ...]] = {(): ()}

    def prompt(self, messages: Sequence[Message | Spoken], tools: Sequence[ToolSpec]) -> list[int]:
        """Token ids of a conversation as the template writes it, up to where the model goes on."""
        asked = (list(messages), list(tools))
        if self._last_prompt is not None and asked == self._last_prompt[:2]:
            return list(self._last_prompt[2])  # the rollouts of a group open alike, in a row
        if self.history != "as-template":
            self._require_append(self._anatomy(tools))
        ids = self.template.encode(self.template.render(*self._said(messages, tools)))
        self._last_prompt = (*asked, ids)
        return list(ids)

    def continuation(
        self,
        sampled: Sequence[int],
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        num_calls: int | None = None,
        past: Sequence[Message | Spoken] = (),
    ) -> list[int]:
        """Token ids between a sampled turn and the next: its end, the new messages, the header.

        Args:
            sampled: `[C]` the turn as sampled, with its stop token where it has one.
            messages: What the environment answered.
            tools: The episode's.
            num_calls: How many tools the turn called. None takes one where a tool answered.
            past: What was said before the turn; some templates count, or number calls.

        Raises:
            ModelError: The template rewrites what it wrote around earlier turns.
        """
        if num_calls is None:
            num_calls = int(bool(messages) and messages[0].role == "tool")
        names = tuple(tool.name for tool in tools) if self._tells(tools) else ()
        self._specs.setdefault(names, tuple(tools))
        style = self._style(tools)
        num_calls = 0 if style is None else num_calls if style.takes_many else min(num_calls, 1)
        if past and self._anatomy(tools).is_placed:
            tail, end = self._tail_after(past, messages, tools, num_calls)
        else:
            is_short = sum(len(message.content) for message in messages) < _SHORT
            render = self._tail if is_short else self._render_tail
            tail, end = render(tuple(messages), names, num_calls)
        ended = bool(sampled) and sampled[-1] in self._last_ends
        return list(tail[end + 1 :] if ended else tail)

    def read(
        self, sampled: Sequence[int], tools: Sequence[ToolSpec], before: Sequence[int] | None = None
    ) -> str:
        """The action of a sampled turn, in canonical form: without stop token and thinking."""
        return self.understand(sampled, tools, before)[0]

    def understand(
        self, sampled: Sequence[int], tools: Sequence[ToolSpec], before: Sequence[int] | None = None
    ) -> tuple[str, Spoken]:
        """The action of a sampled turn, and the turn as the template takes it.

        Args:
            sampled: `[C]`.
            tools: The episode's.
            before: The context it was sampled from; None is one that ends as prompts do.
        """
        ids = list(sampled)
        if ids and (ids[-1] in self.stop_ids or ids[-1] in self._last_ends):
            ids.pop()
        text = self.template.decode(ids)
        anatomy, style = self._anatomy(tools), self._style(tools)
        opened = anatomy.lead_in if self._is_opened(anatomy.lead_in, before) else ""
        thinking = anatomy.thinking
        bare = thinking.strip(opened + text).removeprefix(anatomy.header.strip() or "\0").strip()
        if style is not None:
            action = style.read(bare, tools)
        else:
            action = to_canonical(bare, self.options.tool_format or "hermes", tools)
        reason, content = thinking.split(opened + text)
        if thinking.field is None:
            content = text
        content = content.removeprefix(anatomy.header)
        calls: tuple[Any, ...] = ()
        if style is not None and not (parsed := parse_action(action)).problems and parsed.calls:
            calls, content = tuple(parsed.calls), parsed.text
        return action, Spoken(text, content, reason, calls)

    def write(self, action: str, tools: Sequence[ToolSpec]) -> list[int]:
        """Token ids of a canonical action as the model would write it, its end included."""
        anatomy, style = self._anatomy(tools), self._style(tools)
        parsed = parse_action(action)
        if style is not None and parsed.calls:
            if len(parsed.calls) > 1 and not style.takes_many:
                raise ModelError(
                    f"the chat template of {self.template.name} takes one tool call a turn, "
                    f"got {len(parsed.calls)}"
                )
            text = self._as_written(style.said(parsed.text, parsed.calls), tools, anatomy.call_end)
            return [*self.template.encode(text), self._id(anatomy.call_end)]
        text = from_canonical(action, self.options.tool_format or "hermes", tools)
        if anatomy.opener or anatomy.header:
            text = self._as_written(assistant(text), tools, anatomy.last_end)
        return [*self.template.encode(text), self._id(anatomy.last_end)]

    def keeps(self, spoken: Spoken, tools: Sequence[ToolSpec]) -> bool:
        """Will the template write a turn into the history as it was said?"""
        if spoken.text != spoken.text.strip() or (spoken.calls and self._style(tools) is None):
            return False
        if spoken.calls:
            written = self.template.decode(self.write(spoken.action, tools)[:-1])
            return written == spoken.text
        return self._anatomy(tools).is_stable or not (spoken.thinking or "<think>" in spoken.text)

    @property
    def _anatomies(self) -> tuple[Anatomy, Anatomy]:
        return self._plain, self._tooled

    def _anatomy(self, tools: Sequence[ToolSpec]) -> Anatomy:
        return self._tooled if self._tells(tools) else self._plain

    def _tells(self, tools: Sequence[ToolSpec]) -> bool:
        """Does the template tell the model what tools there are, in the format we read?"""
        return bool(tools) and self._tooled is not self._plain

    def _style(self, tools: Sequence[ToolSpec]) -> CallStyle | None:
        return self._calls if self._tells(tools) else None

    def _own_calls(self) -> CallStyle | None:
        """The template's own way to write calls, unless the options want another."""
        calls, wanted = self._plain.calls, self.options.tool_format
        return calls if calls is not None and wanted in (None, calls.format) else None

    def _tells_hermes(self) -> bool:
        """Does it tell of tools in the canonical format, though it takes no calls itself?"""
        if self.options.tool_format not in (None, "hermes"):
            return False
        probe = ToolSpec(name="probe_told")
        try:
            told = self.template.render([user("?")], [probe])
        except ModelError:
            return False
        return "<tool_call>" in told and probe.name in told

    def _default_history(self) -> HistoryKind:
        return "append" if all(a.is_stable for a in self._anatomies) else "as-template"

    def _require_append(self, anatomy: Anatomy) -> None:
        if anatomy.rewrites is not None:
            raise ModelError(
                f"the chat template of {self.template.name} is not prefix-stable: it rewrites what "
                f"stands around earlier turns, so nothing can be appended to what was sampled: "
                f"{anatomy.rewrites}. Train as it is deployed, with "
                '--set chat.history="as-template", or give a stable one: '
                '--set chat.chat_template="chatml" or a Jinja file.'
            )

    def _examine(self, *, has_tools: bool) -> Anatomy:
        tokenizer, variables = self.tokenizer, repr(self.options.template_options)
        added = tuple(sorted(map(str, tokenizer.added_tokens_decoder.values())))
        key = (tokenizer.chat_template, added, tokenizer.eos_token, variables, self._date)
        known = _anatomies.get((*key, has_tools))
        if known is None:
            anatomy = examine(self.template, has_tools=has_tools)
            known = _anatomies[(*key, has_tools)] = (self.template.has_parts, anatomy)
        self.template.has_parts = known[0]
        return known[1]

    def _system(self, texts: Sequence[str], tools: Sequence[ToolSpec]) -> list[Message]:
        """The system message: the caller's or the environment's, and the tools to be told in it."""
        rules = "\n".join(texts)
        if self.options.system_prompt is not None:
            rules = self.options.system_prompt
        if tools and self.options.system_prompt != "":
            format = self.options.tool_format or "hermes"
            rules = "\n\n".join(filter(None, [rules, describe(tools, format)]))
        return [Message(role="system", content=rules)] if rules else []

    def _said(
        self, messages: Sequence[Message | Spoken], tools: Sequence[ToolSpec]
    ) -> tuple[list[Said], Sequence[ToolSpec]]:
        """A conversation as the template takes it, and the tools that it is to tell."""
        told = tools if self._tells(tools) else ()
        rules = list(takewhile(lambda m: getattr(m, "role", "assistant") == "system", messages))
        system = self._system([rule.content for rule in rules], () if told else tools)
        whole = [*system, *messages[len(rules) :]]
        return as_said(whole, self._anatomy(tools), self._style(tools)), told

    def _render_tail(
        self, messages: tuple[Message, ...], names: tuple[str, ...], num_calls: int
    ) -> tuple[tuple[int, ...], int]:
        """Tokens from the end of an answer on, wherever it stands."""
        question = Message(role="user", content="?")
        return self._tail_after([question], messages, self._specs[names], num_calls)

    def _tail_after(
        self,
        past: Sequence[Message | Spoken],
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        num_calls: int,
    ) -> tuple[tuple[int, ...], int]:
        """Tokens from the end of an answer on, and where among them its end token is."""
        anatomy = self._anatomy(tools)
        self._require_append(anatomy)
        turn = Spoken.probe(ANSWER, messages[0].name if messages else None, num_calls)
        text = self.template.render(*self._said([*past, turn, *messages], tools))
        _, found, tail = text.partition(ANSWER)
        if not found:
            raise ModelError(f"the chat template of {self.template.name} drops such a turn")
        ids = self.template.encode(tail)
        end = self._id(anatomy.call_end if num_calls else anatomy.end)
        if end not in ids:  # the next role's token is the end there, and differs by role
            return tuple(ids), -1
        at = ids.index(end)
        return (tuple(ids[at:]), 0) if num_calls else (tuple(ids), at)

    def _as_written(self, said: dict[str, Any], tools: Sequence[ToolSpec], end: str) -> str:
        """What the template writes of a turn, from where the model begins to its end token."""
        told = tools if self._tells(tools) else ()
        prompt = self.template.render([user("?")], told)
        text = self.template.render([user("?"), said], told, generate=False)
        text = text[num_common(prompt, text) :]
        return text[: text.rfind(end)] if end in text else text

    def _is_opened(self, lead_in: str, before: Sequence[int] | None) -> bool:
        if not lead_in or before is None:
            return bool(lead_in)
        return self.template.decode(before[-len(lead_in) - 8 :]).endswith(lead_in)

    def _id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))
