"""Rewards by name: those that come along, and those of installed packages.

A package shares rewards through the entry point group `turnhalle.rewards`: the entry's name is the
reward's, its value the class, a function that builds one, or a ready reward.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError, unknown_name
from .base import Reward

ENTRY_POINTS = "turnhalle.rewards"
BUILTIN = {
    "cost": "cost:Cost",
    "exact": "exact:Exact",
    "form": "form:Form",
    "judge": "judge:Judge",
    "kernel": "kernel:KernelReward",
    "length": "length:Length",
    "model": "model:ModelReward",
    "numeric_distance": "distance:NumericDistance",
    "overlong": "length:Overlong",
    "readability": "readability:Readability",
    "shaping": "shaping:Shaping",
    "tests": "tests_fraction:TestsFraction",
    "tool_calls": "tool_calls:ToolCalls",
}
_registered: dict[str, Callable[..., Reward] | Reward] = {}


def register_reward(name: str, maker: Callable[..., Reward] | Reward) -> None:
    """Make a reward known by a name, in this process.

    Raises:
        ConfigError: The name belongs to another reward.
    """
    if name in BUILTIN or _registered.get(name, maker) is not maker:
        raise ConfigError(f"a reward named {name!r} exists already; take another name")
    _registered[name] = maker


def reward_names() -> list[str]:
    """All names that `make_reward` knows."""
    return sorted({*BUILTIN, *_registered, *_entries()})


def make_reward(name: str, **options: Any) -> Reward:
    """Make a reward by name.

    Raises:
        UnknownNameError: No reward has the name.
        ConfigError: The reward takes no such options, or needs some that are missing.
    """
    if name in BUILTIN:
        module, _, attribute = BUILTIN[name].partition(":")
        maker: Any = getattr(importlib.import_module(f".{module}", __package__), attribute)
    elif name in _registered:
        maker = _registered[name]
    elif name in (entries := _entries()):
        maker = entries[name].load()
    else:
        raise unknown_name("reward", name, reward_names())
    if isinstance(maker, Reward) and not options:
        return maker
    try:
        made = maker(**options)
    except TypeError as error:
        raise ConfigError(f"reward {name!r} cannot be made with {options}: {error}") from error
    if not isinstance(made, Reward):
        raise ConfigError(f"reward {name!r} made a {type(made).__name__}, which is no Reward")
    return made


def _entries() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}
