"""Claim: on the quickstart, the estimators of credit learn about alike; what each one costs.

Same tasks, same model, same seeds; only `credit.*` differs. Prints a row an estimator: success of
training rollouts (mean of the last five steps) and of held-out tasks, as mean over the seeds with
the lowest and highest, and CPU-seconds a step. With `--svg` it draws the curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from turnhalle.agents.store import RunStore
from turnhalle.config import load_options
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer

CREDITS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "RLOO": {"credit.estimator": "rloo"},
    "PPO": {"credit.estimator": "ppo", "credit.gamma": 0.95},
    "GiGPO": {"credit.estimator": "gigpo", "credit.gamma": 0.95},
}
Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--env", default="tools")
    parser.add_argument("--svg", type=Path, help="draw the curves into this file")
    parser.add_argument("--out", type=Path, help="keep the numbers as JSON lines")
    arguments = parser.parse_args()
    runs: list[Run] = []
    for seed in range(arguments.seeds):  # interleaved, so that a busy minute hits all alike
        for name, changes in CREDITS.items():
            overrides = {
                "env.id": arguments.env,
                "seed": seed,
                "steps": arguments.steps,
                "evaluate.every": 0,
                "evaluate.tasks": 100,
                **changes,
            }
            options = load_options(TrainOptions, "quickstart", overrides)
            runs.append({"name": name, "seed": seed, **_train(options)})
            if arguments.out:
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    print("| credit | training success, last 5 steps | held-out success | CPU-s a step |")
    print("|---|---|---|---|")
    for name in CREDITS:
        own = [run for run in runs if run["name"] == name]
        trained = [statistics.mean(run["success"][-5:]) for run in own]
        held_out = [run["held_out"] for run in own]
        cost = statistics.median(run["cpu"] for run in own) / arguments.steps
        print(f"| {name} | {_range(trained)} | {_range(held_out)} | {cost:.2f} |")
    if arguments.svg:
        draw(runs, arguments.svg)


def draw(runs: list[Run], path: Path) -> None:
    """Success by step: every seed thin, the mean of the seeds thick."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for number, name in enumerate(CREDITS):
        curves = [run["success"] for run in runs if run["name"] == name]
        steps = range(1, len(curves[0]) + 1)
        for curve in curves:
            axes.plot(steps, curve, color=f"C{number}", lw=0.5, alpha=0.4)
        mean = [statistics.mean(points) for points in zip(*curves, strict=True)]
        axes.plot(steps, mean, color=f"C{number}", lw=2, label=name)
    axes.set(xlabel="step", ylabel="success of training rollouts", ylim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="lower right")
    axes.grid(alpha=0.3)
    with plt.rc_context({"svg.hashsalt": "turnhalle"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _train(options: TrainOptions) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        trainer = Trainer(options, Path(folder) / "run", Silent())
        result = trainer.run()
        trainer.close()
        cpu = time.process_time() - started
        store = RunStore(Path(folder) / "run", read_only=True)
        success = [value for _, value in store.metrics("success")]
        store.close()
    return {"success": success, "held_out": result.after.success.value, "cpu": cpu}


def _range(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
