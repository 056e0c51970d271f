"""Tool calls a second: whole episodes of the oracle through `gymnasium.make` with its checks on.

One process, one call a turn, `done` included; resets are timed apart. Beside them, in the same
run, an environment of bare Gymnasium that only echoes: what its wrappers cost. Figures are medians
over rounds in which everything takes its turn, in CPU-seconds; no task comes twice. Peers come
after it, in virtual environments of their own; `--no-peer` leaves them out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium
from peer_environments import print_peers

import turnhalle as th
from turnhalle.envs.spaces import UnicodeText

IDS = ("Tools-v0", "Store-v0", "Calendar-v0", "Workspace-v0", "Units-v0")
Play = Callable[[int], "Timing"]
"""Play the episodes of a round."""
Timing = tuple[float, float]
"""Steps and resets a CPU-second."""


class Echo(gymnasium.Env[str, str]):
    """Say what was said."""

    observation_space = action_space = UnicodeText()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "?", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return action, 0.0, False, False, {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-peer", action="store_true", help="leave the peers out")
    arguments = parser.parse_args()
    gymnasium.register("bench/Echo-v0", Echo)
    count, rounds = arguments.episodes, arguments.rounds
    words = [["x"] * 6] * count * rounds
    runs: dict[str, Play] = {
        "gymnasium, an echo without wrappers": _run(Echo(), words, count),
        "gymnasium.make, an echo": _run(gymnasium.make("bench/Echo-v0"), words, count),
    }
    for id in IDS:
        for difficulty in (1, 3):
            env = gymnasium.make(f"turnhalle/{id}", difficulty=difficulty)
            actions = [_oracle(id, difficulty, task) for task in range(count * rounds)]
            runs[f"{id}, difficulty {difficulty}"] = _run(env, actions, count)
    timings: dict[str, list[Timing]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            timings[name].append(run(number))
    print("| environment | calls/s | resets/s |\n|---|---|---|")
    for name, found in timings.items():
        steps, resets = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"| {name} | {steps:,.0f} | {resets:,.0f} |")
    if not arguments.no_peer:
        print_peers()


def _oracle(id: str, difficulty: int, task: int) -> list[str]:
    """The calls of an episode."""
    env = th.make(f"turnhalle/{id}", difficulty=difficulty)
    env.reset(seed=task)
    actions = []
    while not env.is_over:
        actions.append(env.oracle())
        env.step(actions[-1])
    return actions


def _run(env: gymnasium.Env[str, str], episodes: list[list[str]], count: int) -> Play:
    def run(number: int) -> Timing:
        resetting = stepping = 0.0
        part = episodes[number * count : (number + 1) * count]
        for task, actions in enumerate(part, number * count):
            before = time.process_time()
            env.reset(seed=task)
            between = time.process_time()
            for action in actions:
                env.step(action)
            stepping += time.process_time() - between
            resetting += between - before
        return sum(map(len, part)) / stepping, count / resetting

    return run


if __name__ == "__main__":
    main()
