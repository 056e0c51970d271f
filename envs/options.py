"""Options of an environment in a configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

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

    def factory(self) -> EnvFactory:
        """Resolve the name, and refuse options that the environment does not take.

        Raises:
            UnknownNameError: Nothing answers to the name.
            ConfigError: The environment takes no such option.
        """
        options = dict(self.options)
        if self.difficulty is not None:
            options["difficulty"] = self.difficulty
        factory = resolve(self.id, **options)
        factory()
        return factory
