"""Demonstrations: episodes that an oracle plays, with honest mistakes, as token sequences.

Each demonstrator errs at a rate of its own, drawn evenly around `mistakes` as widely as [0, 1]
allows. A policy that imitates them succeeds sometimes, which is what reinforcement learning needs,
and the careful demonstrator it should become is among those it has seen.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from turnhalle.agents.chat import Chat, Spoken
from turnhalle.agents.scripted import oracle_actions
from turnhalle.envs.core import Message, ToolSpec
from turnhalle.envs.env import TextEnv
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_rng


@dataclass(frozen=True, slots=True)
class Exchange:
    """One turn of a demonstration."""

    action: str
    """In canonical form."""
    answer: list[Message]
    """What the environment said to it."""
    is_mistake: bool


@dataclass(slots=True)
class Demonstration:
    """One episode as it was played."""

    opening: list[Message]
    tools: list[ToolSpec]
    exchanges: list[Exchange]
    success: bool


@dataclass(slots=True)
class Example:
    """A demonstration in tokens."""

    token_ids: list[int]
    """`[T]`"""
    is_action: list[bool]
    """`[T]` the tokens to learn: those of actions, those of mistakes only if they are imitated."""


def demonstrate(
    factory: EnvFactory, count: int, mistakes: float, seed: int, first: int = 0
) -> list[Demonstration]:
    """Let the oracle play `count` training tasks, from task number `first` on.

    Raises:
        ConfigError: The environment has no oracle.
    """
    pool = oracle_actions(factory)
    width = min(mistakes, 1.0 - mistakes)
    demonstrations = []
    for index in range(first, first + count):
        env = factory()
        rng = derive_rng("demonstration", factory.id, seed, index)
        rate = rng.uniform(mistakes - width, mistakes + width)
        demonstrations.append(_play(env, index, rate, rng, pool))
    return demonstrations


def to_example(demonstration: Demonstration, chat: Chat, imitate_mistakes: bool) -> Example:
    """Write a demonstration in the tokens that a rollout of it would have."""
    token_ids = chat.prompt(demonstration.opening, demonstration.tools)
    is_action = [False] * len(token_ids)
    past: list[Message | Spoken] = list(demonstration.opening)
    for number, exchange in enumerate(demonstration.exchanges, start=1):
        written = chat.write(exchange.action, demonstration.tools)
        token_ids += written
        is_action += [imitate_mistakes or not exchange.is_mistake] * len(written)
        if number < len(demonstration.exchanges):
            _, spoken = chat.understand(written, demonstration.tools)
            tail = chat.continuation(
                written, exchange.answer, demonstration.tools, len(spoken.calls), past
            )
            past += [spoken, *exchange.answer]
            token_ids += tail
            is_action += [False] * len(tail)
    return Example(token_ids, is_action)


def _play(
    env: TextEnv, index: int, rate: float, rng: random.Random, pool: list[str]
) -> Demonstration:
    _, info = env.reset(options={"task": index})
    demonstration = Demonstration(info["messages"], info.get("tools", []), [], False)
    while not env.is_over:
        errs = rng.random() < rate
        action = _err(env, rng, pool) if errs else env.expert()
        _, _, _, _, info = env.step(action)
        demonstration.exchanges.append(Exchange(action, info["messages"], errs))
    demonstration.success = info["success"]
    return demonstration


def _err(env: TextEnv, rng: random.Random, pool: list[str]) -> str:
    mistake = env.mistake(rng)
    return rng.choice(pool) if mistake is None else mistake
