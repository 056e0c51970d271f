"""Preferences from JSONL files: pairs of answers to one conversation, of which one is better.

A line has the conversation, which ends with what the assistant answers to, as `messages`
(`training/chats.py`) or as `prompt`, a text of the user's. And it has what is known of answers:

    "chosen": "...", "rejected": "..."              what people preferred, as `reward fit` reads it
    "answers": [{"text": "...", "rating": 4}, ...]  ratings of people's, of any scale
    "answers": [{"text": "..."}, ...]               to be rated by a reward
    nothing                                         the model is to answer, and a reward to rate

Of rated answers every two make a pair whose ratings differ, as in arXiv 2203.02155, section 3.5.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents.chat import Chat
from turnhalle.agents.engines.base import Engine, Request, Sampling
from turnhalle.envs.core import Message
from turnhalle.envs.errors import ConfigError, DataError
from turnhalle.envs.jsonl import read_lines
from turnhalle.envs.rewards.base import Reward, Sample
from turnhalle.envs.rewards.catalogue import make_reward
from turnhalle.envs.seeding import derive_seed

from .chats import as_demonstration, read_messages
from .demos import Example, Exchange, to_example

_MAX_RUNNING = 128
"""Answers that are sampled at a time; bounds the memory of their keys and values."""

Draw = Callable[[list[list[Message]], int], list[list[str]]]
"""Answers of the model to conversations, so many to each."""


class RaterOptions(BaseModel):
    """A reward that rates answers in the place of people."""

    model_config = ConfigDict(extra="forbid")

    name: str
    """As `turnhalle reward list` has it, such as "kernel" or "model"."""
    options: dict[str, Any] = {}
    """Of the reward, such as `folder`."""
    samples: int = Field(4, ge=2)
    """Answers that the model gives to a conversation that comes without any."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one conversation."""

    chosen: Example
    rejected: Example


@dataclass(slots=True)
class _Line:
    """What a line of a file says."""

    where: str
    messages: list[Message]
    answers: list[str]
    ratings: list[float | None]
    """None where it is for a reward to say."""


def read_pairs(
    path: Path, chat: Chat, rater: RaterOptions | None = None, draw: Draw | None = None
) -> list[Pair]:
    """The pairs of a file, in tokens.

    Args:
        path: The file.
        chat: How the model is spoken to.
        rater: Who rates answers that come without a rating.
        draw: Who answers where a line has no answers.

    Raises:
        DataError: A line cannot be used, with file, line and field; or no two answers differ.
        ConfigError: The reward cannot be made, or people have rated answers already.
    """
    lines = [_read(where, line, is_rated=rater is None) for where, line in read_lines(path)]
    if rater is not None:
        rated = [line.where for line in lines if any(r is not None for r in line.ratings)]
        if rated:
            raise ConfigError(
                f"{rated[0]}: has ratings or choices of people's already; leave the stage's rater "
                "out, or them"
            )
        _answer(lines, rater.samples, draw)
        _rate(lines, make_reward(rater.name, **rater.options))
    pairs = [pair for line in lines for pair in _pairs(line, chat)]
    if not pairs:
        raise DataError(f"{path}: no two answers to a conversation are rated differently")
    return pairs


def sampled_answers(engine: Engine, chat: Chat, sampling: Sampling, seed: int) -> Draw:
    """Answers that an engine samples."""

    def draw(conversations: list[list[Message]], count: int) -> list[list[str]]:
        answers = [[""] * count for _ in conversations]
        contexts = [chat.prompt(messages, []) for messages in conversations]
        waiting = deque(itertools.product(range(len(contexts)), range(count)))
        running = 0
        while waiting or running:
            while waiting and running < _MAX_RUNNING:
                number, sample = waiting.popleft()
                session, drawn_by = number * count + sample, derive_seed(seed, number, sample)
                asked = Request(session, contexts[number], drawn_by, sampling, chat.stop_ids)
                engine.submit(asked)
                running += 1
            for done in engine.step():
                number, sample = divmod(done.session, count)
                answers[number][sample] = chat.read(done.token_ids, [], contexts[number])
                engine.close(done.session)
                running -= 1
        return answers

    return draw


def _read(where: str, line: Any, is_rated: bool) -> _Line:
    messages = _conversation(where, line)
    if messages[-1].role == "assistant":
        raise DataError(f"{where}: messages: the last is of the assistant, who is to answer")
    if "chosen" in line or "rejected" in line:
        chosen, rejected = (_text(where, line, key) for key in ("chosen", "rejected"))
        if chosen == rejected:
            raise DataError(f"{where}: chosen and rejected are the same text")
        return _Line(where, messages, [chosen, rejected], [1.0, 0.0])
    given = line.get("answers", [])
    if not isinstance(given, list) or not all(isinstance(answer, dict) for answer in given):
        raise DataError(f"{where}: answers: must be a list of objects with text and rating")
    answers = [_text(f"{where}: answers[{i}]", answer, "text") for i, answer in enumerate(given)]
    ratings = [_rating(f"{where}: answers[{i}]", answer) for i, answer in enumerate(given)]
    if is_rated and (len(answers) < 2 or None in ratings):
        raise DataError(
            f"{where}: needs chosen and rejected, or two answers with a rating; a reward rates "
            "those without where the stage has a rater"
        )
    return _Line(where, messages, answers, ratings)


def _conversation(where: str, line: Any) -> list[Message]:
    if isinstance(line, dict) and "prompt" in line and "messages" not in line:
        return [Message(role="user", content=_text(where, line, "prompt"))]
    return read_messages(where, line)


def _answer(lines: Sequence[_Line], count: int, draw: Draw | None) -> None:
    """Let the model answer where nobody has."""
    silent = [line for line in lines if not line.answers]
    if silent and draw is None:
        raise DataError(f"{silent[0].where}: has no answers")
    answers = draw([line.messages for line in silent], count) if silent and draw else []
    for line, drawn in zip(silent, answers, strict=True):
        # Equal answers have equal ratings; an empty one says nothing that could be learned.
        line.answers = [text for text in dict.fromkeys(drawn) if text.strip()]
        line.ratings = [None] * len(line.answers)


def _rate(lines: Sequence[_Line], reward: Reward) -> None:
    """Ask a reward for all ratings; answers that it is silent about are left out."""
    samples = [Sample(text, line.messages[-1].content) for line in lines for text in line.answers]
    scores = iter(reward.batch(samples))
    for line in lines:
        line.ratings = [next(scores) for _ in line.answers]


def _pairs(line: _Line, chat: Chat) -> list[Pair]:
    rated = [(r, t) for r, t in zip(line.ratings, line.answers, strict=True) if r is not None]
    written = {text: _written(line, text, chat) for _, text in rated}
    return [
        Pair(*(written[text] for _, text in sorted(two, reverse=True)))
        for two in itertools.combinations(rated, 2)
        if two[0][0] != two[1][0] and two[0][1] != two[1][1]
    ]


def _written(line: _Line, answer: str, chat: Chat) -> Example:
    """A conversation with its last answer; only that one is scored."""
    messages = [*line.messages, Message(role="assistant", content=answer)]
    demonstration = as_demonstration(line.where, messages)
    *before, last = demonstration.exchanges
    unscored = [Exchange(e.action, e.answer, is_mistake=True) for e in before]
    demonstration.exchanges = [*unscored, last]
    return to_example(demonstration, chat, imitate_mistakes=False)


def _text(where: str, line: dict[str, Any], key: str) -> str:
    value = line.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key}: must be a text, got {value!r}")
    return value


def _rating(where: str, answer: dict[str, Any]) -> float | None:
    rating = answer.get("rating")
    is_number = isinstance(rating, int | float) and not isinstance(rating, bool)
    if rating is not None and not (is_number and rating == rating):
        raise DataError(f"{where}: rating: must be a number, got {rating!r}")
    return None if rating is None else float(rating)
