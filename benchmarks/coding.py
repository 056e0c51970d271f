"""HumanEval graded whole: every canonical solution, each call of it in a box of its own.

Beside it the way of most graders: one subprocess a problem that holds code and tests together, fast
and easy to fool. Wall-clock seconds are of this machine and whatever else it does; CPU-seconds are
those of the boxes and of this process. `python benchmarks/coding.py [FILE] [--slots N]`
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from turnhalle.envs.coding.grading.boxes import Boxes, close_boxes, shared_boxes
from turnhalle.envs.coding.grading.grade import grade
from turnhalle.envs.coding.grading.tests import Submission
from turnhalle.envs.coding.rows import CodeProblem, read_rows
from turnhalle.envs.errors import SandboxUnavailableError
from turnhalle.envs.sandbox.core import Limits, RunResult, Sandbox
from turnhalle.envs.sandbox.options import SandboxOptions

HUMANEVAL = Path("/work/shared/data/humaneval/HumanEval.jsonl.gz")
LIMITS = Limits(cpu_s=3.0, wall_s=30.0)


class Counted(Sandbox):
    """A sandbox that adds up what its runs took."""

    def __init__(self, inner: Sandbox) -> None:
        self.inner, self.isolation = inner, inner.isolation
        self.runs, self.cpu_s, self._lock = 0, 0.0, threading.Lock()

    def run(self, *args: Any, **kwargs: Any) -> RunResult:
        result = self.inner.run(*args, **kwargs)
        with self._lock:
            self.runs, self.cpu_s = self.runs + 1, self.cpu_s + result.usage.cpu_s
        return result

    def close(self) -> None:
        self.inner.close()


def in_boxes(rows: tuple[CodeProblem, ...], tier: Any, slots: int) -> tuple[int, int, float, float]:
    """Problems passed, runs, wall and CPU-seconds, in the boxes of a tier."""
    opened = shared_boxes(SandboxOptions(tier=tier, slots=slots))
    boxes = object.__new__(Boxes)
    boxes.__dict__.update(opened.__dict__)
    candidates, checkers = Counted(opened.candidates), Counted(opened.checkers)
    boxes.candidates, boxes.__dict__["_checkers"] = candidates, checkers

    def passes(row: CodeProblem) -> bool:
        submission = Submission(row["preamble"] + row["solution"], row["entry"])
        return grade(boxes, LIMITS, submission, row["hidden"], whole=False).passed

    passed, wall_s, cpu_s = timed(passes, rows, slots)
    both = (candidates, checkers)
    return passed, sum(b.runs for b in both), wall_s, cpu_s + sum(b.cpu_s for b in both)


def in_subprocesses(rows: tuple[CodeProblem, ...], slots: int) -> tuple[int, int, float, float]:
    """The same by one subprocess a problem; its exit code is the verdict."""

    def passes(row: CodeProblem) -> bool:
        code = row["preamble"] + row["solution"] + row["hidden"][0].get("code", "")  # type: ignore[operator]
        code += f"\ncheck({row['entry']})\n"
        command = [sys.executable, "-I", "-S", "-c", code]
        return subprocess.run(command, capture_output=True).returncode == 0

    began = children_s()
    passed, wall_s, cpu_s = timed(passes, rows, slots)
    return passed, len(rows), wall_s, cpu_s + children_s() - began


def children_s() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(
    passes: Callable[[CodeProblem], bool], rows: tuple[CodeProblem, ...], slots: int
) -> tuple[int, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(slots) as pool:
        passed = sum(pool.map(passes, rows))
    return passed, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=HUMANEVAL)
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args()
    rows = read_rows(given.file)
    print("| graded by | passed | runs | wall s | CPU-s |\n|---|---|---|---|---|")
    for tier in ("bubblewrap", "docker"):
        try:
            passed, runs, wall_s, cpu_s = in_boxes(rows, tier, given.slots)
        except SandboxUnavailableError as error:
            print(f"| {tier} | not here: {str(error).splitlines()[0]} | | | |")
            continue
        print(f"| {tier} | {passed} of {len(rows)} | {runs:,} | {wall_s:.1f} | {cpu_s:.1f} |")
    passed, runs, wall_s, cpu_s = in_subprocesses(rows, given.slots)
    print(f"| a subprocess | {passed} of {len(rows)} | {runs:,} | {wall_s:.1f} | {cpu_s:.1f} |")
    close_boxes()


if __name__ == "__main__":
    main()
