"""Chats from JSONL files, as examples to imitate.

A line is `{"messages": [{"role": ..., "content": ...}, ...]}`; every assistant message is learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from turnhalle.envs.core import Message
from turnhalle.envs.errors import DataError
from turnhalle.envs.jsonl import read_lines

from .demos import Demonstration, Exchange

_MESSAGES = TypeAdapter(list[Message])


def read_chats(path: Path) -> list[Demonstration]:
    """The chats of a file.

    Raises:
        DataError: A line is no chat, or has nothing to learn; names file, line and field.
    """
    chats = []
    for where, line in read_lines(path):
        messages = read_messages(where, line)
        if not any(m.role == "assistant" for m in messages):
            raise DataError(f"{where}: messages: none is of the assistant, nothing to learn")
        chats.append(as_demonstration(where, messages))
    return chats


def as_demonstration(where: str, messages: list[Message]) -> Demonstration:
    """The conversation as an episode that somebody played.

    Raises:
        DataError: The assistant speaks unasked.
    """
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


def read_messages(where: str, line: Any) -> list[Message]:
    """The messages of a line.

    Raises:
        DataError: There are none; names the field.
    """
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
