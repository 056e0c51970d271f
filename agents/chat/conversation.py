"""One episode in tokens: what to sample from next, and what of it was sampled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace

from turnhalle.envs.core import Message, ToolSpec

from ..core import Segment, num_common
from .chat import Chat
from .history import SUMMARY_REQUEST, History, history_of
from .messages import Spoken

DRIFT = ("cut", "retokenised", "rewritten", "unrenderable", "branches", "fed_again", "summaries")
"""What is counted, by name: see `docs/tokens.md`."""


@dataclass(slots=True)
class _Turn:
    number: int
    token_ids: list[int]
    """`[C]` as sampled."""
    spoken: Spoken
    header: list[int]
    """What stood right before it, from the last special token on."""
    answer: tuple[Message, ...] = ()
    """What the environment said to it."""


@dataclass(slots=True)
class Conversation:
    """The tokens of an episode, under a history policy."""

    chat: Chat
    opening: list[Message]
    tools: list[ToolSpec]
    context: list[int] = field(init=False)
    """`[T]` what the next sample is drawn from, or what was drawn up to now."""
    turns: list[_Turn] = field(default_factory=list)
    summary: str | None = None
    """The model's own, where one was just written."""
    drift: Counter[str] = field(default_factory=Counter)
    _history: History = field(init=False)
    _segments: list[Segment] = field(default_factory=list)
    _is_summing_up: bool = False

    def __post_init__(self) -> None:
        self._history = history_of(self.chat)
        self.context = self.chat.prompt(self.opening, self.tools)
        self._segments.append(Segment(list(self.context)))

    def add(
        self,
        token_ids: list[int],
        logprobs: list[float],
        version: int,
        kept_mass: list[float] | None = None,
    ) -> str | None:
        """Take what was sampled; the action in it, or None where it is a summary for later.

        After None the conversation is ready to be sampled from again. The arguments are those of
        a `Segment`.
        """
        before = self.context
        self._segments.append(Segment(token_ids, logprobs, version, kept_mass=kept_mass))
        self.context = before + token_ids
        if self._is_summing_up:
            self._sum_up(token_ids, before)
            return None
        action, spoken = self.chat.understand(token_ids, self.tools, before)
        header = self.chat.template.header(before)
        self.turns.append(_Turn(len(self.turns), token_ids, spoken, header))
        return action

    def take_segments(self) -> list[Segment]:
        """The segments of the turn that `add` finished."""
        segments, self._segments = self._segments, []
        return segments

    def answer_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Tokens that an answer to the last turn would add, were it given."""
        return self.tail(replace(self.turns[-1], answer=tuple(messages)))

    def observe(self, messages: Sequence[Message]) -> None:
        """Take what the environment answered."""
        turn = self.turns[-1]
        turn.answer = tuple(messages)
        self._measure(turn)
        if self._history.wants_summary(self):
            self._is_summing_up = True
            request = Message(role="user", content=SUMMARY_REQUEST)
            self._go_on(self.context + self.tail(turn, request))
            return
        self._go_on(self._history.follow(self))

    def fork(self) -> Conversation:
        """Another conversation that goes on from here; what is counted is counted anew."""
        twin = copy(self)
        twin.context, twin._segments = list(self.context), list(self._segments)
        twin.turns = [replace(turn) for turn in self.turns]
        twin.drift = Counter()
        return twin

    def tail(
        self, turn: _Turn, *more: Message, past: Sequence[Message | Spoken] | None = None
    ) -> list[int]:
        """Tokens that follow a turn as it was sampled: its end, its answer, the next header.

        Args:
            turn: Which.
            more: What else is said to it.
            past: What was said before it, as far as it is shown; None is everything.
        """
        past = self.said(turn.number) if past is None else past
        answer = [*turn.answer, *more]
        return self.chat.continuation(
            turn.token_ids, answer, self.tools, len(turn.spoken.calls), past
        )

    def said(self, num_turns: int | None = None) -> list[Message | Spoken]:
        """The conversation as a server would be told it, up to a turn."""
        messages: list[Message | Spoken] = list(self.opening)
        for turn in self.turns[:num_turns]:
            messages += [turn.spoken, *turn.answer]
        return messages

    def _sum_up(self, token_ids: list[int], before: list[int]) -> None:
        self._is_summing_up = False
        self.drift["summaries"] += 1
        self.summary = self.chat.read(token_ids, [], before)
        self._go_on(self._history.follow(self))
        self.summary = None

    def _go_on(self, context: list[int]) -> None:
        """Go on from a context: where it does not extend the last one, in a new branch."""
        shared = num_common(self.context, context)
        if shared == len(self.context):
            self._segments.append(Segment(context[shared:]))
        else:
            # The last token is never shared: something must be new for the engine to feed.
            shared = min(shared, len(context) - 1)
            self._segments.append(Segment(context[shared:], parent=shared - 1))
            self.drift["branches"] += 1
            self.drift["fed_again"] += len(context) - shared
        self.context = context

    def _measure(self, turn: _Turn) -> None:
        """Count how the turn differs from what a server that only sees text would go on from."""
        ids, drift = turn.token_ids, self.drift
        ended = bool(ids) and ids[-1] in self.chat.stop_ids
        drift["cut"] += not ended
        said = ids[:-1] if ended else ids
        template = self.chat.template
        text = template.decode(turn.header) + turn.spoken.text
        drift["retokenised"] += template.encode(text) != turn.header + said
        drift["rewritten"] += not self.chat.keeps(turn.spoken, self.tools)
