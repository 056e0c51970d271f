"""What an episode may cost, and what happens to those that cost more."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.envs.core import Message

_FEWEST_CHARS = 100
"""Of a message; where so many have less than that, some are left out."""


class LimitOptions(BaseModel):
    """Limits of episodes. The defaults never touch an environment that answers at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turn_timeout_s: float = Field(120.0, gt=0)
    """Longest wait for one answer of an environment that blocks; one that answers in this process
    at once (`metadata["blocking"]` is False) cannot be interrupted, and has no time-out."""
    episode_timeout_s: float | None = Field(None, gt=0)
    """Longest time from the first observation on, sampling included; None has no limit."""
    threads: int = Field(64, ge=1)
    """Most blocking environments that work at a time."""
    max_abandoned: int = Field(16, ge=0)
    """Threads that hang are left behind and replaced, up to this many."""
    quorum: int | None = Field(None, ge=1)
    """Once so many rollouts of a group are finished, the others have `grace_s` left; None waits for
    all. With a quorum the clock decides what is trained on."""
    grace_s: float = Field(10.0, ge=0)
    max_observation_chars: int = Field(100_000, ge=100)
    """A longer observation loses its middle, and says so, before anybody sees it."""


class BranchOptions(BaseModel):
    """Where episodes are forked, so that siblings share their beginning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """After so many turns, each time."""
    factor: int = Field(2, ge=2)
    """Every episode that comes to a fork goes on as this many."""

    @property
    def num_leaves(self) -> int:
        """Most trajectories that one rollout becomes."""
        return int(self.factor ** len(self.at))


DEFAULT_LIMITS = LimitOptions()
STRAIGHT = BranchOptions()
"""No forks."""


def shorten(text: str, max_chars: int) -> str:
    """`text`, without its middle where it is too long; says how much is gone."""
    text = well_formed(text)
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    gone = len(text) - 2 * half
    return f"{text[:half]}\n[... {gone} characters left out ...]\n{text[-half:]}"


def shorten_all(messages: list[Message], max_chars: int) -> list[Message]:
    """Messages of about so many characters together: each has its share, the middle ones go."""
    most = max(2, max_chars // _FEWEST_CHARS)
    if len(messages) > most:
        kept, gone = most // 2, len(messages) - 2 * (most // 2)
        note = f"{messages[kept - 1].content}\n[... {gone} messages left out ...]"
        last = messages[kept - 1].model_copy(update={"content": note})
        messages = [*messages[: kept - 1], last, *messages[-kept:]]
    if sum(len(message.content) for message in messages) > max_chars:
        max_chars //= len(messages)
    texts = [shorten(message.content, max_chars) for message in messages]
    return [
        message if text is message.content else message.model_copy(update={"content": text})
        for message, text in zip(messages, texts, strict=True)
    ]


def well_formed(text: str) -> str:
    """`text` without halves of surrogate pairs, which cannot be encoded.

    Two that belong together become the character they stand for, others U+FFFD.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
