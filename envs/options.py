"""Options of an environment in a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .errors import ConfigError
from .isolation import Isolation
from .registry import EnvFactory, resolve


class EnvOptions(BaseModel):
    """Which environment, and how hard."""

    model_config = ConfigDict(extra="forbid")

    id: str = "tools"
    """Id, short name, `module:Class` or `file.py:Class`."""
    difficulty: int | None = Field(None, ge=1)
    """None is the environment's own default."""
    options: dict[str, Any] = {}
    """Arguments of the environment's constructor."""
    isolation: Literal["thread", "process"] = "thread"
    """Where its episodes live: "thread", in this process; "process", in one of its own each, which
    may hang, crash or be killed alone."""
    memory_gib: float | None = Field(None, gt=0)
    """Most memory of such a process; None has no bound."""

    def factory(self) -> EnvFactory:
        """Resolve the name, and refuse options that the environment does not take.

        Raises:
            UnknownNameError: Nothing answers to the name.
            ConfigError: The environment takes no such option, or cannot be isolated.
        """
        options = dict(self.options)
        if self.difficulty is not None:
            options["difficulty"] = self.difficulty
        factory = replace(resolve(self.id, **options), isolation=self._isolation())
        factory()
        if self.isolation == "process":
            factory.open()
        return factory

    def _isolation(self) -> Isolation | None:
        if self.isolation == "process":
            gib = self.memory_gib
            return Isolation(None if gib is None else int(gib * 2**30))
        if self.memory_gib is not None:
            raise ConfigError(
                "env.memory_gib bounds a process of the environment's own; give "
                'env.isolation="process" too, or leave it out'
            )
        return None
