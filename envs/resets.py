"""What `reset` may be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ConfigError, positive, unknown_name

if TYPE_CHECKING:
    from .env import TextEnv

_OPTIONS = ("split", "task", "difficulty", "noise")


class Reset(NamedTuple):
    """The task that an episode is to play."""

    split: str
    index: int
    difficulty: int
    noise: int


def read_reset(env: TextEnv, seed: int | None, options: dict[str, Any]) -> Reset:
    """Read seed and options; what they leave open is the environment's own, or drawn.

    Raises:
        UnknownNameError: An option that does not exist.
        ConfigError: A number that is none.
    """
    for name in options:
        if name not in _OPTIONS:
            raise unknown_name("reset option", str(name), _OPTIONS)
    difficulty = positive("difficulty", options.get("difficulty", env.difficulty))
    index = options.get("task", seed)
    if index is None:
        index = int(env.np_random.integers(2**62))
    noise = options.get("noise", 0)
    for name, value in (("task", index), ("noise", noise)):
        if not isinstance(value, int) or value < 0:
            raise ConfigError(f"{name} must be an integer of at least 0, got {value!r}")
    return Reset(options.get("split", "train"), index, difficulty, noise)
