"""What an engine is: submit token ids, get sampled ids with the log-probs they were sampled by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length"]


class Sampling(BaseModel):
    """How a policy samples. Temperature is part of the policy: log-probs are of what is sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, ge=0.0, le=10.0)
    """0 is greedy."""
    max_new_tokens: int = Field(64, ge=1)
    """Most tokens of one turn."""


@dataclass(slots=True)
class Request:
    """One turn to sample."""

    session: int
    """The episode; an engine may keep what it computed for it between turns."""
    token_ids: list[int]
    """`[T]` the whole context so far; within a session each context extends the last."""
    seed: int
    """Seed of this turn: the sample does not depend on what else is in the batch."""
    sampling: Sampling
    stop_ids: frozenset[int]


@dataclass(slots=True)
class Completion:
    """One turn as sampled; a stop token is the last of `token_ids`."""

    session: int
    token_ids: list[int]
    """`[C]`"""
    logprobs: list[float]
    """`[C]` float32; greedy decoding reports the log-probs at temperature 1."""
    finish_reason: FinishReason
    adapter_version: int


class Engine(Protocol):
    """Samples turns for any number of sessions at once."""

    max_context: int
    """Most tokens of a session, prompt and completion together."""
    adapter_version: int
    """Version of the adapter in force; the owner raises it when the weights change."""

    def submit(self, request: Request) -> None:
        """Queue a turn."""
        ...

    def step(self) -> list[Completion]:
        """Advance every running turn by a token; the turns that finished."""
        ...

    def close(self, session: int) -> None:
        """Forget a session."""
        ...
