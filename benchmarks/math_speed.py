"""Math: steps and resets through `gymnasium.make` with checks on, and grading; one core.

Rows are medians of interleaved rounds in CPU-seconds. Half of the actions are right, half wrong;
they are prepared outside of the measured time. `bare gymnasium` is the same question and a string
comparison, with nothing of ours. Peers (GEM, TextArena, reasoning-gym, OpenEnv) run in the same run
and in virtual environments of their own; `--no-peer` leaves them out.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
from peer_environments import print_peers
from peer_process import run

import turnhalle as th
from turnhalle.envs.math import worker
from turnhalle.envs.math.grading import RULES, Rule, is_right

GSM8K = Path("/work/shared/data/gsm8k/test.jsonl")
EPISODES, ROUNDS = 1000, 9
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Math-v0": ("turnhalle/Math-v0", {}),
    "MathProblems-v0": ("turnhalle/MathProblems-v0", {}),
    "MathProblems-v0, attempts": ("turnhalle/MathProblems-v0", {"mode": "attempts"}),
    "MathProblems-v0, calculator": ("turnhalle/MathProblems-v0", {"mode": "calculator"}),
    "bare gymnasium": ("bare/Sum-v0", {}),
}


class BareSum(gymnasium.Env[str, str]):
    """What a math environment costs at the least: one sum, one comparison."""

    def __init__(self) -> None:
        space = gymnasium.spaces.Text(200, charset="".join(map(chr, range(32, 127))))
        self.observation_space = self.action_space = space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        a, b = (int(n) for n in self.np_random.integers(1, 100, 2))
        self.answer = str(a + b)
        return f"Compute {a} + {b}.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        is_right = action.rpartition("#### ")[2] == self.answer
        return "right" if is_right else "wrong", float(is_right), True, False, {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-peer", action="store_true", help="leave the peers out")
    arguments = parser.parse_args()
    gymnasium.register("bare/Sum-v0", BareSum)
    if GSM8K.is_file():
        WORLDS["Gsm8k-v0"] = ("turnhalle/Gsm8k-v0", {"path": GSM8K})
    print("| environment | steps/s | resets/s |\n|---|---|---|")
    for name, (steps, resets) in speeds().items():
        print(f"| {name} | {steps:,.0f} | {resets:,.0f} |")
    print("\n| grading | answers/s |\n|---|---|")
    for name, rate in gradings().items():
        print(f"| {name} | {rate:,.0f} |")
    if not arguments.no_peer:
        for name, rate in gem_gradings().items():
            print(f"| {name} | {rate:,.0f} |")
        print_peers()


def speeds() -> dict[str, tuple[float, float]]:
    """Steps and resets a second of every world."""
    worlds = {name: gymnasium.make(id, **kwargs) for name, (id, kwargs) in WORLDS.items()}
    plans = {name: [actions(env, task) for task in range(EPISODES)] for name, env in worlds.items()}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in worlds}
    for _ in range(ROUNDS):
        for name, env in worlds.items():
            rounds[name].append(play(env, plans[name]))
    return {
        name: (statistics.median(s for s, _ in done), statistics.median(r for _, r in done))
        for name, done in rounds.items()
    }


def actions(env: gymnasium.Env[str, str], task: int) -> list[str]:
    """What to do in an episode: the oracle's actions, or wrong ones to the end."""
    world, said, rng = env.unwrapped, [], random.Random(task)
    env.reset(seed=task)
    if not isinstance(world, th.TextEnv):
        return [f"#### {world.answer if task % 2 else 0}"]  # type: ignore[attr-defined]
    while not world.is_over:
        right = world.oracle()
        wrong = f"I think it is #### {rng.randint(1, 10**4) + 10**6}"
        said.append(right if task % 2 or "<tool_call>" in right else wrong)
        env.step(said[-1])
    return said


def play(env: gymnasium.Env[str, str], plan: list[list[str]]) -> tuple[float, float]:
    """Steps and resets a second of CPU time; the clock's own cost is taken off."""
    clock = time.process_time
    stepping = resetting = 0.0
    count = 0
    for task, said in enumerate(plan):
        begin = clock()
        env.reset(seed=task)
        middle = clock()
        for action in said:
            env.step(action)
        end = clock()
        resetting += middle - begin
        stepping += end - middle
        count += len(said)
    tick = min(_timed(lambda: [clock() for _ in range(1000)]) / 1000 for _ in range(5))
    return count / (stepping - tick * len(plan)), len(plan) / (resetting - tick * len(plan))


def gradings() -> dict[str, float]:
    """Answers a second; no pair occurs twice, and no answer is the gold to the letter."""
    samples = {
        "numeric": (list(numeric(20_000)), RULES["number"]),
        "symbolic, normal form": (list(algebraic(4_000)), Rule("algebraic")),
        "symbolic, nested roots": (list(nested(600)), RULES["symbolic"]),
        "symbolic, functions": (list(transcendental(900)), RULES["symbolic"]),
        "symbolic, by sympy in the worker": (list(for_sympy(100)), RULES["symbolic"]),
    }
    found = {}
    for name, (pairs, rule) in samples.items():
        clock = time.process_time
        if "sympy" in name:
            assert worker.process_id() is None  # nothing before has asked it
            is_right("abs(x^2-1)", "abs(x-1)*abs(x+1)", rule)  # starts it
            clock = _with_worker
        begin = clock()
        right = sum(is_right(action, gold, rule) for action, gold in pairs)
        found[name] = len(pairs) / (clock() - begin)
        assert right == len(pairs) // 2, (name, right)
    worker.close()
    return found


def numeric(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        off, forms = (
            n % 2,
            ("#### {:,}", "\\boxed{{{}.0}}", "so it is #### +{}", "<answer>{}0/10</answer>"),
        )
        yield forms[n // 2 % 4].format(1000 + n + off), str(1000 + n)


def algebraic(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        a, b, off = 2 + n % 61, 1 + n // 61, n % 2
        forms = (
            (f"(x+{a})(x-{b})", f"x^2+{a - b}x-{a * b + off}"),
            (f"\\frac{{x^2-{a * a}}}{{x-{a}}}+{b}", f"x+{a + b + off}"),
            (f"{b}\\sqrt{{{a * a * 2}}}", f"{a * b}*sqrt(2)+{off}"),
            (f"{a}/({b}+sqrt(3))", f"({a * b}-{a}sqrt(3))/({b * b - 3 + off})"),
        )
        answer, gold = forms[n // 2 % 4]
        yield f"\\boxed{{{answer}}}", gold


def transcendental(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        a, off = 2 + n, n % 2
        forms = (
            (f"sin({a}x)^2+cos({a}x)^2+{a}", f"{a + 1 + off}"),
            (f"exp(x+{a})", f"e^{a}*exp(x)+{off}"),
            (f"log({a})+log({a + 1})", f"log({a * (a + 1) + off})"),
        )
        answer, gold = forms[n // 2 % 3]
        yield f"#### {answer}", gold


def nested(count: int) -> Iterator[tuple[str, str]]:
    for n in range(count):
        a, off = 2 + n, n % 2
        forms = (
            (f"sqrt({a * a + 2}+{2 * a}sqrt(2))", f"{a}+sqrt(2)+{off}"),
            (f"{a}cos(pi/5)", f"{a}/4+sqrt({5 * a * a})/4+{off}"),
            (f"sqrt(x^2+{2 * a}x+{a * a})", f"abs(x+{a})+{off}"),
        )
        answer, gold = forms[n // 2 % 3]
        yield f"#### {answer}", gold


def for_sympy(count: int) -> Iterator[tuple[str, str]]:
    """What neither values nor normal forms decide."""
    for n in range(count):
        a = 2 + n
        gold = f"abs(x-{a})*abs(x+{a})" if n % 2 == 0 else f"abs(x-{a})^3*abs(x+{a})/(x-{a})^2+0^x"
        yield f"#### abs(x^2-{a * a})", gold


def gem_gradings() -> dict[str, float]:
    """What GEM does with some of the same answers."""
    boxes = [(f"\\boxed{{{a[5:]}}}", g) for a, g in numeric(2000) if a[:5] == "#### "]
    found: dict[str, float] = run(
        "gem", "math_grading.py", given={"numeric": boxes, "symbolic": list(algebraic(400))}
    )
    return found


def _with_worker() -> float:
    """CPU-seconds of this process and of the one that sympy is in."""
    fields = Path(f"/proc/{worker.process_id()}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
