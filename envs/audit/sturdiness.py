"""Does it bear anything that a policy may say, for as long as training lasts, and fast?"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import random
import threading
import time
from statistics import median

from ..env import TextEnv
from ..seeding import derive_rng
from .core import FaultError, Subject
from .play import Episode, begin, by_oracle, play, step

_CHUNKS = 9
_MAX_SLOWDOWN = 2.0
_MAX_GROWTH_BYTES = 16 * 2**20
_FREE_OBJECTS = 1_000
"""What a bounded cache may hold more or less of at any moment."""
_GROWTH_TASKS = 20
"""Played once before anything is measured, then again and again: caches by task are full then, so
that whatever still grows is left behind by episodes."""

_NASTY = (
    "",
    "\x00",
    "\ud800",
    "\u202e\u200b\ufeff",
    "٣",
    "NaN",
    "1e999",
    "-0",
    "9" * 5000,
    "a" * 100_000,
    "[" * 20_000,
    '{"a":' * 5_000,
    "(" * 5_000 + ")" * 5_000,
    "%s%n" * 50,
    "{0.__class__}",
    "<tool_call>" * 100,
    '<tool_call>{"name": "answer", "arguments": {"__class__": 1}}</tool_call>',
    "<tool_call>{}</tool_call>",
    "\r\n\t\x0b\x1b[31m",
    "__import__('os').system('true')",
)


def _fuzz(subject: Subject) -> str:
    """Nothing that a policy may say raises, or is answered with what is no text."""
    rng = derive_rng("fuzz")
    env, tried = subject.env(), 0
    episode = begin(env, 0)
    for index in subject.many(10_000):
        if env.is_over:
            episode = begin(env, index)
        step(env, episode, _nonsense(rng, env, episode, index))
        if not math.isfinite(episode.rewards[-1]):
            raise FaultError(f"a reward of {episode.rewards[-1]} for {episode.actions[-1][:60]!r}")
        if not env.observation_space.contains(episode.observations[-1]):
            raise FaultError(f"an observation outside its space for {episode.actions[-1][:60]!r}")
        tried += 1
    return f"{tried:,} odd actions raised nothing"


def _nonsense(rng: random.Random, env: TextEnv, episode: Episode, index: int) -> str:
    """One of the nasty texts, random characters, or the oracle's action with damage."""
    if index < len(_NASTY):
        return _NASTY[index]
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice(_NASTY[:8])
    if kind == 1:
        return "".join(chr(rng.randrange(0x3000)) for _ in range(rng.randrange(40)))
    action = by_oracle(env, episode)
    cut = rng.randrange(len(action) + 1)
    return action[:cut] + chr(rng.randrange(1, 0x300)) + action[cut + rng.randrange(3) :]


def _growth(subject: Subject) -> str:
    """No process, thread, file or memory is left behind."""
    env = subject.env()

    def both(index: int) -> None:
        play(env, index, by_oracle)
        play(env, index, lambda env, episode: "")

    for index in range(_GROWTH_TASKS):
        both(index)
    before, episodes = _resources(), 0
    for index in subject.many(1_000):
        both(index % _GROWTH_TASKS)
        episodes += 2
    grown = {name: now - before[name] for name, now in _resources().items()}
    left = {name: more for name, more in grown.items() if name != "bytes" and more > 0}
    if left.pop("objects", 0) > episodes + _FREE_OBJECTS:
        raise FaultError(f"{grown['objects']} objects are left after {episodes} episodes")
    if left:
        raise FaultError(f"left after {episodes} episodes: {left}")
    if grown["bytes"] > _MAX_GROWTH_BYTES:
        raise FaultError(f"grew by {grown['bytes'] / 2**20:.0f} MiB over {episodes} episodes")
    return f"{episodes:,} episodes left no thread, file, process or memory behind"


def _resources() -> dict[str, int]:
    """What this process holds; the numbers of Linux only where there is /proc."""
    gc.collect()
    _return_freed_memory()
    found = {"threads": threading.active_count(), "objects": len(gc.get_objects())}
    if os.path.isdir("/proc/self"):
        found["files"] = len(os.listdir("/proc/self/fd"))
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            found["processes"] = len(file.read().split())
        with open("/proc/self/statm", encoding="ascii") as file:
            found["bytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return found | {"bytes": found.get("bytes", 0)}


def _return_freed_memory() -> None:
    """Give what the C library keeps of freed memory back to the system.

    Otherwise what is hoarded may fit into it, and the process does not grow.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def _speed(subject: Subject) -> str:
    """Steps a second inside episodes, resets apart; it must not get slower."""
    env, chunks = subject.env(), []
    scripts = [subject.play(index, by_oracle).actions for index in subject.many(100)]
    steps = sum(map(len, scripts))
    resetting = 0.0
    for _ in range(_CHUNKS):
        stepping = 0.0
        for index, actions in enumerate(scripts):
            began = time.process_time()
            begin(env, index)
            middle = time.process_time()
            for action in actions:
                env.step(action)
            stepping += time.process_time() - middle
            resetting += middle - began
        chunks.append(stepping)
    first, last = median(chunks[:3]), median(chunks[-3:])
    if last > _MAX_SLOWDOWN * first + 0.01:
        raise FaultError(f"the last episodes took {last / first:.1f} times as long as the first")
    resets = len(scripts) * _CHUNKS / max(resetting, 1e-9)
    return (
        f"{steps / max(median(chunks), 1e-9):,.0f} steps/s, {resets:,.0f} resets/s, no slower later"
    )


CHECKS = {"fuzz": _fuzz, "growth": _growth, "speed": _speed}
