"""What an engine is: submit token ids, get sampled ids with the log-probs they were sampled by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.envs.errors import EngineError

if TYPE_CHECKING:
    import torch

FinishReason = Literal["stop", "length", "error"]
"""A stop token, the end of the room, or an engine that failed under the turn."""


PATIENCE_S = 0.005
"""Longest wait of a `step` of an engine that works elsewhere: so long an environment's answer may
lie there unseen."""


class Sampling(BaseModel):
    """How a policy samples. Temperature is part of the policy: log-probs are of what is sampled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, ge=0.0, le=10.0)
    """0 is greedy."""
    max_new_tokens: int = Field(64, ge=1)
    """Most tokens of one turn."""
    top_k: int | None = Field(None, ge=1)
    """Sample among this many of the most likely tokens only."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Sample among the most likely tokens that have this much of the probability together."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a turn; the token that completes one is the turn's last."""

    @property
    def is_truncated(self) -> bool:
        """Are some tokens never sampled?"""
        return self.top_k is not None or (self.top_p is not None and self.top_p < 1)


@dataclass(slots=True)
class Request:
    """One turn to sample."""

    session: int
    """The episode; an engine may keep what it computed for it between turns."""
    token_ids: list[int]
    """`[T]` the whole context so far. Within a session it usually extends the last one; a
    rewritten history shares only a beginning with it."""
    seed: int
    """Seed of this turn: the sample does not depend on what else is in the batch."""
    sampling: Sampling
    stop_ids: frozenset[int]
    parent: int | None = None
    """Of a session's first turn: another session whose context this one began as."""


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
    kept_mass: list[float] | None = None
    """`[C]` with top-k or top-p, the probability of what was sampled among, together:
    `logprobs + log(kept_mass)` are the log-probs before tokens were left out."""
    error: str | None = None
    """What went wrong; the turn has no tokens then."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do beyond sampling at a temperature."""

    is_exact: bool
    """Computes in 32 bits: equal requests give equal tokens, whatever else is in the batch."""
    records_kept_mass: bool
    """Says with top-k and top-p how much of the distribution was kept. Without it nobody can train
    on such samples."""
    reads_stop_text: bool
    """Ends turns at texts, not at tokens only."""


class Engine(Protocol):
    """Samples turns for any number of sessions at once."""

    max_context: int
    """Most tokens of a session, prompt and completion together."""
    adapter_version: int
    """Version of the adapter in force."""
    capabilities: Capabilities

    def submit(self, request: Request) -> None:
        """Queue a turn; an `EngineError` where it cannot be sampled."""
        ...

    def step(self) -> list[Completion]:
        """Advance every running turn; the turns that finished."""
        ...

    def close(self, session: int) -> None:
        """Forget a session, and the turn that it runs."""
        ...

    def load_adapter(self, version: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Sample with these weights from now on; `tensors` has the trainer's names."""
        ...

    def resting(self) -> AbstractContextManager[None]:
        """While this is open no turn runs, and the engine may lend its memory."""
        ...

    def shutdown(self) -> None:
        """Free what the engine holds."""
        ...


def check_request(engine: Engine, request: Request, is_busy: bool) -> None:
    """Refuse a turn that the engine cannot sample.

    Raises:
        EngineError: The context is empty or too long, the session is busy, or the engine cannot
            sample so.
    """
    max_context, sampling = engine.max_context, request.sampling
    if sampling.is_truncated and not engine.capabilities.records_kept_mass:
        raise EngineError("this engine cannot record what top_k and top_p keep; leave them out")
    if sampling.stop and not engine.capabilities.reads_stop_text:
        raise EngineError("this engine knows stop tokens only; leave sampling.stop out")
    if not 0 < len(request.token_ids) < max_context:
        raise EngineError(
            f"a context must have 1 to {max_context - 1} tokens, got {len(request.token_ids)}"
        )
    if is_busy:
        raise EngineError(f"session {request.session} already has a turn running")
