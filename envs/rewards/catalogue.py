"""Rewards by name: those that come along, and those of installed packages.

A package shares rewards through the entry point group `turnhalle.rewards`: the entry's name is the
reward's, its value the class, a function that builds one, or a ready reward.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ConfigError, UnknownNameError, unknown_name
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


def describe_rewards() -> dict[str, str]:
    """The first line of what each reward says of itself, by name."""
    return {
        name: (inspect.getdoc(_maker(name)) or "").partition("\n")[0] for name in reward_names()
    }


def find_reward(name: str, **options: Any) -> Reward:
    """A reward by name, or `module:reward`, a ready reward or a class.

    Raises:
        UnknownNameError: Nothing answers to the name.
        ConfigError: What does is no reward, takes no such options, or needs others.
    """
    module_name, colon, attribute = name.rpartition(":")
    if not colon:
        return make_reward(name, **options)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise UnknownNameError(f"no module named {module_name!r} can be imported here") from error
    if not hasattr(module, attribute):
        rewards = [k for k, v in vars(module).items() if isinstance(v, Reward)]
        raise unknown_name("reward", attribute, rewards, f"Looked in {module_name}.")
    return _make(name, getattr(module, attribute), options)


def make_reward(name: str, **options: Any) -> Reward:
    """Make a reward by name.

    Raises:
        UnknownNameError: No reward has the name.
        ConfigError: The reward takes no such options, or needs some that are missing.
    """
    return _make(name, _maker(name), options)


def _maker(name: str) -> Any:
    if name in BUILTIN:
        module, _, attribute = BUILTIN[name].partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), attribute)
    if name in _registered:
        return _registered[name]
    entries = _entries()
    if name not in entries:
        raise unknown_name("reward", name, reward_names())
    return entries[name].load()


def _make(name: str, maker: Any, options: dict[str, Any]) -> Reward:
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
