"""Pac-Man's speed: steps inside episodes and resets, through `gymnasium.make` with its checks on.

One core, CPU-seconds, medians of interleaved rounds. Random words are played, every reset is
another task. "gymnasium" is an environment that does nothing, made the same way: the checker and
the wrappers alone. The last column plays 1,000 episodes in one environment and compares the
steps/s of the last hundred with those of the first. Peers come after it, in virtual environments of
their own; `--no-peer` leaves them out.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
from peer_environments import print_peers

from turnhalle.envs.builtin import register_builtin
from turnhalle.envs.spaces import UnicodeText

_WORDS = ("up", "down", "left", "right")
_GAMES: dict[str, dict[str, Any]] = {
    "5x5, the default": {},
    "7x7 pillars": {"size": 7},
    "7x7, difficulty 2": {"difficulty": 2},
    "13x13, difficulty 4": {"difficulty": 4},
    "classic, difficulty 6": {"difficulty": 6},
    "classic, grid text": {"difficulty": 6, "view": "grid"},
    "classic, scene": {"difficulty": 6, "view": "scene"},
}
_IDLE = "gymnasium, an idle environment"


class Idle(gymnasium.Env[str, str]):
    """Says the same thing for a hundred turns."""

    def __init__(self) -> None:
        self.observation_space = self.action_space = UnicodeText()
        self._turn = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._turn = 0
        return "hello", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._turn += 1
        return "hello", 0.0, self._turn == 100, False, {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true", help="leave the peers out")
    arguments = parser.parse_args()
    register_builtin()
    gymnasium.register("benchmarks/Idle-v0", Idle)
    games: dict[str, Callable[[], Any]] = {
        _IDLE: lambda: gymnasium.make("benchmarks/Idle-v0"),
        **{
            name: lambda options=options: gymnasium.make("turnhalle/Pacman-v0", **options)
            for name, options in _GAMES.items()
        },
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in games}
    for number in range(arguments.rounds):
        for name, make in games.items():
            measured[name].append(_round(make(), number, arguments.steps))
    print("| game | steps/s | resets/s | steps/s, episodes 901-1000 to 1-100 |")
    print("|---|---|---|---|")
    for name, make in games.items():
        steps, resets = (statistics.median(column) for column in zip(*measured[name], strict=True))
        print(f"| {name} | {steps:,.0f} | {resets:,.0f} | {_slowdown(make()):.2f} |", flush=True)
    if not arguments.no_peer:
        print_peers()


def _round(env: Any, number: int, steps: int) -> tuple[float, float]:
    """Steps/s inside episodes, and resets/s."""
    words = random.Random(number).choices(_WORDS, k=steps)
    stepping = resetting = 0.0
    taken = resets = 0
    while taken < steps:
        before = time.process_time()
        env.reset(seed=1_000_000 * number + resets)
        resetting += time.process_time() - before
        resets += 1
        count, seconds = _episode(env, words[taken:] or words)
        taken, stepping = taken + count, stepping + seconds
    return taken / stepping, resets / resetting


def _episode(env: Any, words: list[str]) -> tuple[int, float]:
    """Turns and CPU-seconds of an episode, or of as much of it as there are words."""
    count = 0
    before = time.process_time()
    for word in words:
        _, _, terminated, truncated, _ = env.step(word)
        count += 1
        if terminated or truncated:
            break
    return count, time.process_time() - before


def _slowdown(env: Any) -> float:
    """Steps/s of the last hundred of 1,000 episodes, by those of the first; at most 100 turns."""
    words = random.Random(0).choices(_WORDS, k=100)
    played = []
    for episode in range(1000):
        env.reset(seed=episode)
        played.append(_episode(env, words))

    def speed(some: list[tuple[int, float]]) -> float:
        return sum(count for count, _ in some) / sum(seconds for _, seconds in some)

    return speed(played[-100:]) / speed(played[:100])


if __name__ == "__main__":
    main()
