"""The main job, measured: three environments, three seeds each, through the command people type.

Prints success before and after on the same 200 held-out tasks, the paired gain with its 95 %
interval, and what the run cost. Rows are runs; nothing is picked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turnhalle.agents.evaluate import recall
from turnhalle.agents.store import RunStore

_TURNHALLE = Path(sys.executable).parent / "turnhalle"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", nargs="+", default=["tools", "math", "pacman"])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        "| environment | seed | before [95 %] | after [95 %] | gain [95 %] | wall s | CPU s | GiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for env in arguments.envs:
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                print(_row(env, seed, Path(folder) / "run"), flush=True)


def _row(env: str, seed: int, folder: Path) -> str:
    command = [_TURNHALLE, "train", "--env", env, "--seed", str(seed), "--out", folder]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed with status {status}")
    store = RunStore(folder, read_only=True)
    steps = store.evaluated_steps()
    before, after = (recall(store, step) for step in (steps[0], steps[-1]))
    return (
        f"| {env} | {seed} | {before.success.percent()} | {after.success.percent()} | "
        f"{after.gain_over(before).points()} | {wall:.0f} | "
        f"{usage.ru_utime + usage.ru_stime:.0f} | {usage.ru_maxrss / 2**20:.2f} |"
    )


if __name__ == "__main__":
    main()
