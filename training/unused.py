"""No option is ignored: one that is set and has no effect is refused."""

from __future__ import annotations

from collections.abc import Set

from pydantic import BaseModel

from turnhalle.envs.errors import ConfigError


def refuse_unused(section: str, options: BaseModel, used: Set[str], because: str) -> None:
    """Refuse options of a section that differ from their default and have no effect.

    Raises:
        ConfigError: Names the option, and the choice that makes it idle.
    """
    for name, info in type(options).model_fields.items():
        if name not in used and getattr(options, name) != info.get_default(
            call_default_factory=True
        ):
            raise ConfigError(
                f"{section}.{name} = {getattr(options, name)!r} has no effect with {because}; "
                "leave it out"
            )
