"""What peers do in a second: run by `math_speed.py`, in a virtual environment of its own.

Reads the pairs of action and gold as JSON, so that GEM grades what Turnhalle graded.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time

import reasoning_gym
from datasets import Dataset
from gem.envs.math_env import MathEnv

ITEMS = 2000


def main() -> None:
    samples = json.load(sys.stdin)
    found = {}
    with contextlib.redirect_stdout(io.StringIO()):
        problems = reasoning_gym.create_dataset("chain_sum", seed=1, size=ITEMS)
        begin = time.process_time()
        drawn = [problems[n] for n in range(ITEMS)]
        found["reasoning-gym chain_sum, problems drawn"] = ITEMS / (time.process_time() - begin)
        begin = time.process_time()
        for entry in drawn:
            problems.score_answer("12345", entry)
        found["reasoning-gym chain_sum, answers scored"] = ITEMS / (time.process_time() - begin)
        for name, pairs in samples.items():
            rate, right = gem(pairs)
            found[f"GEM MathEnv, {name} ({right} of {len(pairs) // 2} right answers found)"] = rate
    print(json.dumps(found))


def gem(pairs: list[list[str]]) -> tuple[float, int]:
    """Answers a second, and how many of the right ones it took for right."""
    rows = Dataset.from_list([{"problem": "?", "answer": gold} for _, gold in pairs])
    env = MathEnv(dataset=rows, use_mp=False, eval=True)
    spent, right = 0.0, 0
    for n, (action, _) in enumerate(pairs):
        env.reset(idx=n)
        begin = time.process_time()
        _, reward, *_ = env.step(action)
        spent += time.process_time() - begin
        right += reward == 1 and n % 2 == 0
    return len(pairs) / spent, int(right)


if __name__ == "__main__":
    main()
