"""Chats from JSONL files: examples to imitate, and pairs of answers of which one is better.

A line of a chat is `{"messages": [{"role": ..., "content": ...}, ...]}`; every assistant message
is learned. A line of a pair is `{"messages": [...], "chosen": "...", "rejected": "..."}`: two
answers to the same conversation, which ends with what the assistant answers to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from turnhalle.agents.chat import Chat
from turnhalle.envs.core import Message
from turnhalle.envs.errors import DataError
from turnhalle.envs.jsonl import read_lines

from .demos import Demonstration, Example, Exchange, to_example


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one conversation."""

    chosen: Example
    rejected: Example


_MESSAGES = TypeAdapter(list[Message])


def read_chats(path: Path) -> list[Demonstration]:
    """The chats of a file.

    Raises:
        DataError: A line is no chat, or has nothing to learn; names file, line and field.
    """
    chats = []
    for where, line in read_lines(path):
        messages = _messages(where, line)
        if not any(m.role == "assistant" for m in messages):
            raise DataError(f"{where}: messages: none is of the assistant, nothing to learn")
        chats.append(_demonstration(where, messages))
    return chats


def read_pairs(path: Path, chat: Chat) -> list[Pair]:
    """The pairs of a file, in tokens.

    Raises:
        DataError: A line is no pair; names file, line and field.
    """
    pairs = []
    for where, line in read_lines(path):
        messages = _messages(where, line)
        if messages[-1].role == "assistant":
            raise DataError(f"{where}: messages: the last is of the assistant, who is to answer")
        answers = [_text(where, line, key) for key in ("chosen", "rejected")]
        if answers[0] == answers[1]:
            raise DataError(f"{where}: chosen and rejected are the same text")
        chosen, rejected = (_answered(where, messages, answer, chat) for answer in answers)
        pairs.append(Pair(chosen, rejected))
    return pairs


def _answered(where: str, messages: list[Message], answer: str, chat: Chat) -> Example:
    """A conversation with its last answer; only that one is scored."""
    demonstration = _demonstration(where, [*messages, Message(role="assistant", content=answer)])
    *before, last = demonstration.exchanges
    unscored = [Exchange(e.action, e.answer, is_mistake=True) for e in before]
    demonstration.exchanges = [*unscored, last]
    return to_example(demonstration, chat, imitate_mistakes=False)


def _demonstration(where: str, messages: list[Message]) -> Demonstration:
    """The conversation as an episode that somebody played."""
    opening: list[Message] = []
    exchanges: list[Exchange] = []
    for number, message in enumerate(messages):
        if message.role == "assistant":
            if number == 0 or messages[number - 1].role == "assistant":
                raise DataError(f"{where}: messages[{number}]: the assistant speaks unasked")
            exchanges.append(Exchange(message.content, [], is_mistake=False))
        elif exchanges:
            exchanges[-1].answer.append(message)
        else:
            opening.append(message)
    return Demonstration(opening, [], exchanges, success=True)


def _messages(where: str, line: Any) -> list[Message]:
    try:
        messages = _MESSAGES.validate_python(line["messages"] if isinstance(line, dict) else None)
    except KeyError as error:
        raise DataError(f"{where}: messages: missing (a list of role and content)") from error
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in ("messages", *first["loc"]))
        raise DataError(f"{where}: {path}: {first['msg']}") from error
    if not messages:
        raise DataError(f"{where}: messages: empty")
    return messages


def _text(where: str, line: dict[str, Any], key: str) -> str:
    value = line.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key}: must be a text, got {value!r}")
    return value
