"""Policies without a model: the oracle, and the ones that an honest environment does not reward."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from turnhalle.envs.core import Message
from turnhalle.envs.errors import ConfigError, unknown_name
from turnhalle.envs.playable import Playable
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_rng

from .policy import Decision, Opening

Act = Callable[[Playable, random.Random], str]

_POOL_TASKS = 32
_POOL_SIZE = 512


@dataclass
class ScriptedPolicy:
    """Plays what a function says, with a random generator of its own for each episode."""

    name: str
    act: Act
    max_concurrent: int = 256
    _episodes: dict[int, tuple[Playable, random.Random]] = field(default_factory=dict)
    _ready: dict[int, None] = field(default_factory=dict)
    """Episodes that wait for a decision, in the order they came."""

    def begin(self, opening: Opening) -> None:
        """Start an episode."""
        rng = derive_rng(self.name, opening.seed)
        self._episodes[opening.episode] = (opening.env, rng)
        self._ready[opening.episode] = None

    def poll(self) -> list[Decision]:
        """Decide at once for every episode that waits."""
        ready, self._ready = self._ready, {}
        return [Decision(episode, self.act(*self._episodes[episode])) for episode in ready]

    def observe(self, episode: int, messages: list[Message]) -> None:
        """Ready for the next turn."""
        self._ready[episode] = None

    def fork(self, episode: int, opening: Opening) -> None:
        """All that a script knows is the environment."""
        self.begin(opening)

    def end(self, episode: int) -> None:
        """Forget the episode, and that it waits."""
        del self._episodes[episode]
        self._ready.pop(episode, None)


def oracle_actions(factory: EnvFactory) -> list[str]:
    """What the oracle does in a few training tasks: plausible actions for a random policy.

    Raises:
        ConfigError: The environment has no oracle.
    """
    env = factory()
    if not env.has_oracle:
        raise ConfigError(
            f"{factory.id} has no oracle; write `def oracle(self)` that returns the right action"
        )
    actions: list[str] = []
    for index in range(_POOL_TASKS):
        env.reset(options={"task": index})
        while not env.is_over and len(actions) < _POOL_SIZE:
            actions.append(env.expert())
            env.step(actions[-1])
    return actions


def scripted_policy(name: str, factory: EnvFactory) -> ScriptedPolicy:
    """A policy by name: "oracle", "random" or "null".

    Raises:
        UnknownNameError: No such policy.
        ConfigError: The environment has no oracle.
    """
    if name == "null":
        return ScriptedPolicy(name, lambda env, rng: "")
    if name not in SCRIPTED:
        raise unknown_name("scripted policy", name, SCRIPTED)
    # Asking for the actions first also refuses environments without an oracle.
    pool = oracle_actions(factory)
    if name == "oracle":
        return ScriptedPolicy(name, lambda env, rng: env.expert())
    return ScriptedPolicy(name, lambda env, rng: rng.choice(pool))


SCRIPTED = ("null", "oracle", "random")
"""oracle knows the instance; random plays what the oracle played elsewhere; null says nothing."""
