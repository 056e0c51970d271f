"""What crosses the boundary of an environment: text, messages, and the record of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(BaseModel):
    """One call of a tool, as a policy asked for it."""

    model_config = ConfigDict(frozen=True)

    name: str
    arguments: dict[str, Any] = {}


class ToolSpec(BaseModel):
    """What a policy may know of a tool: its name, what it does, its arguments as a JSON schema."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str = ""
    parameters: dict[str, Any] = {"type": "object", "properties": {}}

    def as_openai(self) -> dict[str, Any]:
        """The function schema that chat templates and OpenAI-compatible endpoints take."""
        return {"type": "function", "function": self.model_dump()}


class Message(BaseModel):
    """One message of a conversation; `name` is the tool that a `tool` message answers for."""

    model_config = ConfigDict(frozen=True)

    role: Role
    content: str
    name: str | None = None


@lru_cache(maxsize=256)
def system_message(rules: str) -> Message:
    """The rules as a message; made once, because every episode begins with it."""
    return Message(role="system", content=rules)


class StopReason(StrEnum):
    """Every way an episode can end."""

    FINISHED = "finished"
    """The environment terminated: the task is solved or failed."""
    MAX_TURNS = "max_turns"
    """The task's own turn limit; it is part of the task, so its reward stands."""
    CONTEXT = "context"
    """The next turn did not fit into the policy's context: a compute budget cut the episode."""
    ENV_ERROR = "env_error"
    """The environment raised; the episode is masked in training."""
    OUTSIDE_ERROR = "outside_error"
    """A judge or simulated user failed, not the agent; the episode is masked in training."""
    TIMEOUT = "timeout"
    """The environment did not answer in time; the episode is masked in training."""
    ENGINE_ERROR = "engine_error"
    """The engine that samples failed under the episode; it is masked."""
    CANCELLED = "cancelled"
    """The run was interrupted before the episode ended; the episode is masked."""


class StepInfo(TypedDict, total=False):
    """The `info` of `reset` and `step`: a plain dictionary with these keys and no others."""

    messages: list[Message]
    """The observation as messages; what a chat policy reads instead of the bare text."""
    tools: list[ToolSpec]
    """On `reset`: the tools of this episode, absent where there are none."""
    parts: dict[str, float]
    """The step's reward by named part."""
    faults: dict[str, int]
    """Tool calls of the step that went wrong, counted by kind; absent where none did."""
    success: bool
    """Set on the last step: did the episode do what the task asks? What benchmarks count."""
    stop: StopReason
    """Set on the last step."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The environment answers and the episode goes on."""

    text: str
    reward: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named reward parts; they replace `reward`, which becomes their sum."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """What went wrong in the action, counted by kind."""
    messages: tuple[Message, ...] = ()
    """The answer as messages, where one user message of `text` does not say it."""


@dataclass(frozen=True, slots=True)
class End(Reply):
    """The environment answers and the episode is over."""

    success: bool = field(kw_only=True)
    """Did the episode do what the task asks? Shaping rewards never change this."""


def parse_int(text: str) -> int | None:
    """The integer that `text` is, or None: ASCII digits with an optional sign, nothing else."""
    stripped = text.strip()
    digits = stripped.removeprefix("-").removeprefix("+") if stripped[:1] in "+-" else stripped
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 1000):
        return None
    return int(stripped)
