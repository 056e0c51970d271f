"""Claims: slow environments cost a step next to nothing, and a step costs what its work does.

Whole steps of the trainer (rollouts, credit, update, store) on a random Qwen3 of 0.87 M parameters,
LoRA rank 8 in 32 bits, one thread. First 64 episodes x 3 turns x 32 tokens, with environments that
answer at once or after 10 ms, and with `rollout.lookahead` off and on; the four are interleaved.
Wall seconds mean something on an idle machine only. What latency adds can be told on a busy one
too: CPU-seconds, and the seconds in which the rollout had nothing to do but wait for environments.
Then CPU-seconds by episodes and by turns, beside the tokens that go through the model. A trainer
that reads the whole context again at every turn computes a multiple of them that grows with the
turns; what may grow here is attention, which compares every token with all before it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from grpo_step import write_model

import turnhalle as th
from turnhalle.agents import driver
from turnhalle.agents.calls import Answer, Calls
from turnhalle.agents.core import Trajectory
from turnhalle.agents.store import RunStore
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer

LATENCY_S = 0.010
GROUP, TURNS, TOKENS = 8, 3, 32
Seconds = tuple[float, float, float]


class Prompt(th.TextEnv):
    """Asks again; the reward is a checksum of what was said."""

    max_turns = TURNS

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"game": rng.randrange(10**6)}

    def start(self) -> str:
        return f"Game {self.instance['game']}: reach the goal. Guess."

    def respond(self, action: str) -> th.Reply:
        return th.Reply(f"obs {self.turn}: try again", reward=sum(map(ord, action)) % 7 / 7)


class Slow(Prompt):
    """The same, after 10 ms."""

    metadata = Prompt.metadata | {"blocking": True}

    def respond(self, action: str) -> th.Reply:
        time.sleep(LATENCY_S)
        return super().respond(action)


class Clock(Silent):
    """Wall, CPU and idle seconds between steps."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float, float]] = []

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.at.append((time.perf_counter(), time.process_time(), Waiting.idle))


class Waiting(Calls):
    """Adds up how long a rollout waits for environments with nothing else to do."""

    idle = 0.0

    def ready(self, wait_s: float) -> list[Answer]:
        wall, cpu = time.perf_counter(), time.thread_time()
        answers = super().ready(wait_s)
        if wait_s:
            Waiting.idle += time.perf_counter() - wall - (time.thread_time() - cpu)
        return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after two of warm-up")
    parser.add_argument("--rounds", type=int, default=3, help="of latency")
    parser.add_argument("--no-growth", action="store_true", help="latency only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    driver.Calls = Waiting  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        latency(folder, arguments.steps, arguments.rounds)
        if not arguments.no_growth:
            growth(folder, arguments.steps)
    print(f"\nload of the machine over the last minute: {os.getloadavg()[0]:.1f}")


def latency(folder: str, steps: int, rounds: int) -> None:
    """Environments at once and after 10 ms, lookahead off and on."""
    kinds = list(itertools.product((0, 1), ("Prompt", "Slow")))
    found: dict[Any, list[Seconds]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for lookahead, env in kinds:
            found[lookahead, env] += run(folder, env, steps, lookahead=lookahead)[0]
    print("| lookahead | env.step | wall s a step | CPU-s | idle s | CPU and idle, added |")
    print("|---|---|---|---|---|---|")
    for lookahead, env in kinds:
        wall, cpu, idle = (statistics.median(x) for x in zip(*found[lookahead, env], strict=True))
        at_once = statistics.median(cpu + idle for _, cpu, idle in found[lookahead, "Prompt"])
        name = "10 ms" if env == "Slow" else "at once"
        added = (cpu + idle) / at_once - 1
        print(
            f"| {lookahead} | {name} | {wall:.2f} | {cpu:.2f} | {idle:.3f} | {added:+.1%} |",
            flush=True,
        )


def growth(folder: str, steps: int) -> None:
    """Twice the episodes or turns, and again."""
    print("\n| episodes | turns | CPU-s a step | tokens a step | us a token | by prefilling |")
    print("|---|---|---|---|---|---|")
    for tasks, turns in ((4, 3), (8, 3), (16, 3), (8, 6), (8, 12), (8, 24)):
        seconds, played = run(folder, "Prompt", steps, tasks=tasks, turns=turns)
        cpu = statistics.median(cpu for _, cpu, _ in seconds)
        tokens = sum(t.num_tokens for t in played)
        again = sum(map(prefilled, played)) / tokens
        print(
            f"| {tasks * GROUP} | {turns} | {cpu:.2f} | {tokens} | {1e6 * cpu / tokens:.0f} | "
            f"{again:.1f} x the tokens |",
            flush=True,
        )


def prefilled(trajectory: Trajectory) -> int:
    """Tokens that are computed where every turn reads its whole context again."""
    lengths = [sum(len(s.token_ids) for s in turn.segments) for turn in trajectory.turns]
    return sum(itertools.accumulate(lengths))


def run(
    folder: str, env: str, steps: int, *, lookahead: int = 0, tasks: int = 8, turns: int = TURNS
) -> tuple[list[Seconds], list[Trajectory]]:
    """Wall, CPU and idle seconds of each measured step, and the episodes of the last one."""
    options = TrainOptions.model_validate(
        {
            "env": {"id": f"{Path(__file__).resolve()}:{env}", "options": {"max_turns": turns}},
            "model": {"name": folder, "precision": "fp32", "device": "cpu", "lora_rank": 8},
            "chat": {"system_prompt": ""},
            "rollout": {
                "tasks": tasks,
                "group_size": GROUP,
                "max_new_tokens": TOKENS,
                "lookahead": lookahead,
            },
            "learn": {"minibatches": 1, "learning_rate": 1e-5},
            "evaluate": {"tasks": 10, "every": 0},
            "steps": steps + 2,
            "checkpoint_every": steps + 2,
        }
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(options, Path(runs) / "run", clock)
        trainer.run()
        trainer.close()
        store = RunStore(Path(runs) / "run", read_only=True)
        played = [store.episode(id) for id in store.episode_ids("train", steps + 2)]
        store.close()
    later, earlier = clock.at[2:], clock.at[1:-1]
    seconds = [(b[0] - a[0], b[1] - a[1], b[2] - a[2]) for a, b in zip(earlier, later, strict=True)]
    return seconds, played


if __name__ == "__main__":
    main()
