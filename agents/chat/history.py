"""History policies: what a model is shown of its earlier turns, as the tokens to go on from.

A policy is a value; given a conversation it says which tokens the next turn is sampled from. Where
they do not extend the tokens before, a new branch begins; what was sampled is trained where it was
sampled, and stands in later branches as context only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from turnhalle.envs.core import Message
from turnhalle.envs.errors import ModelError

from .messages import Spoken

if TYPE_CHECKING:
    from .chat import Chat
    from .conversation import Conversation

SUMMARY_REQUEST = (
    "Your context is almost full. Write down what you need to go on: what was asked, what you "
    "found out, what is left to do. Everything else will be forgotten."
)
_SUMMARY = "What you wrote down so far:"


class History(Protocol):
    """How a conversation goes on after the environment answered."""

    def follow(self, talk: Conversation) -> list[int]:
        """`[T]` the whole context of the next turn, the last answer included."""
        ...

    def wants_summary(self, talk: Conversation) -> bool:
        """Shall the model write down what it knows before it goes on?"""
        ...


@dataclass(frozen=True, slots=True)
class Append:
    """Every turn stays as it was sampled."""

    def follow(self, talk: Conversation) -> list[int]:
        """The context so far, and what came."""
        return talk.context + talk.tail(talk.turns[-1])

    def wants_summary(self, talk: Conversation) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class AsTemplate(Append):
    """Every turn stands as the template writes it into the history: what a server would feed."""

    def follow(self, talk: Conversation) -> list[int]:
        """The conversation, rendered anew; a turn that cannot be rendered stays as sampled."""
        try:
            return talk.chat.prompt(talk.said(), talk.tools)
        except ModelError:
            talk.drift["unrenderable"] += 1
            return talk.context + talk.tail(talk.turns[-1])


@dataclass(frozen=True, slots=True)
class Window(Append):
    """The opening and the last `size` turns, as they were sampled."""

    size: int

    def follow(self, talk: Conversation) -> list[int]:
        """What came before the window is left out, its last answer excepted."""
        if len(talk.turns) <= self.size:
            return talk.context + talk.tail(talk.turns[-1])
        first = len(talk.turns) - self.size
        opening = [*talk.opening, *as_user(talk.turns[first - 1].answer)]
        context = talk.chat.prompt(opening, talk.tools)
        shown: list[Message | Spoken] = list(opening)
        for turn in talk.turns[first:]:
            context += turn.token_ids + talk.tail(turn, past=shown)
            shown += [turn.spoken, *turn.answer]
        return context


@dataclass(frozen=True, slots=True)
class Summarise(Append):
    """Once the context is longer than `above` tokens, the model's own summary replaces it."""

    above: int

    def follow(self, talk: Conversation) -> list[int]:
        """After a summary: the opening, the summary, and what came since."""
        if talk.summary is None:
            return talk.context + talk.tail(talk.turns[-1])
        note = Message(role="user", content=f"{_SUMMARY}\n{talk.summary}")
        answer = as_user(talk.turns[-1].answer)
        return talk.chat.prompt([*talk.opening, note, *answer], talk.tools)

    def wants_summary(self, talk: Conversation) -> bool:
        """Is the context too long, and has anything happened since the last summary?"""
        return talk.summary is None and len(talk.context) > self.above


def history_of(chat: Chat) -> History:
    """The policy that a chat's options ask for."""
    options = chat.options
    if chat.history == "window":
        assert options.window is not None
        return Window(options.window)
    if chat.history == "summarise":
        assert options.summarise_above is not None
        return Summarise(options.summarise_above)
    return AsTemplate() if chat.history == "as-template" else Append()


def as_user(messages: Sequence[Message]) -> list[Message]:
    """Answers whose question is out of sight, as a user would tell them."""
    return [Message(role="user", content=m.content) for m in messages]
