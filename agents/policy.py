"""What a policy is: it is told what happens in episodes, and says what to do, at its own pace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from turnhalle.envs.core import Message, StopReason, ToolSpec
from turnhalle.envs.playable import Playable

from .core import Segment


@dataclass(slots=True)
class Opening:
    """The start of an episode, as a policy sees it."""

    episode: int
    """Names the episode in every later call."""
    messages: list[Message]
    tools: list[ToolSpec]
    seed: int
    """Seed of whatever the policy draws in this episode."""
    env: Playable
    """For scripted policies, which may look behind the curtain; others never touch it."""


@dataclass(slots=True)
class Decision:
    """What a policy does next in an episode."""

    episode: int
    action: str
    """In the environment's canonical form."""
    segments: list[Segment] = field(default_factory=list)
    stop: StopReason | None = None
    """Set where the policy cannot go on; the action is not played then."""
    error: str | None = None
    """Why it cannot, where that is nobody's wish."""


class Policy(Protocol):
    """Plays any number of episodes at once."""

    name: str
    max_concurrent: int
    """Most episodes at a time; bounds the memory of environments and engine. Only a single rollout
    that is forked into more may exceed it."""

    def begin(self, opening: Opening) -> None:
        """An episode starts; its first decision will come out of `poll`."""
        ...

    def poll(self) -> list[Decision]:
        """Work for a moment; the decisions that are ready, perhaps none yet."""
        ...

    def observe(self, episode: int, messages: list[Message]) -> None:
        """The environment answered; the next decision will come out of `poll`."""
        ...

    def fork(self, episode: int, opening: Opening) -> None:
        """An episode begins with the history of another; its messages are the next observation."""
        ...

    def end(self, episode: int) -> None:
        """The episode is over; `poll` gives no decision of it any more."""
        ...
