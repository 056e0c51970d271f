"""What `kernels.py` measured: as CSV, as a plot, beside what was asked for; compiled resources."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from turnhalle.kernels import resources

ASKED = {
    "log-probs, M 8,192, V 151,936, H 2,048": 7.6,
    "log-probs, M 8,192, V 151,936, H 4,096": 15.2,
    "log-probs and dX, M 8,192, V 151,936, H 2,048": 16.5,
    "log-probs and dX, M 8,192, V 151,936, H 4,096": 32.0,
    "4 bits to 16, 4096 x 14336": 0.042,
}
"""Most milliseconds on an H200."""

ASKED_RATIOS = {
    "trl 1.16": 1.4,
    "liger 0.8.5, fused GRPO": 5.0,
    "torch.compile of chunks": 1.5,
    "full logits": 0.95,
    "copy of as many bytes": 0.85,
}
"""Least speed as a multiple of a contender's."""


def print_asked(rows: list[dict[str, Any]]) -> None:
    """What was asked for beside what was measured."""
    print("\n| figure | asked | measured | |\n|---|---|---|---|")
    ours = {row["op"]: row for row in rows if row["contender"] == "turnhalle"}
    for op, most in ASKED.items():
        if op in ours:
            ms = ours[op]["ms"]
            print(f"| {op} | <= {most} ms | {ms:.3f} ms | {'met' if ms <= most else 'missed'} |")
    for row in rows:
        op, least = row["op"], ASKED_RATIOS.get(row["contender"])
        if least is not None and op in ours and ("log-probs and dX" in op or least == 0.85):
            ratio = row["ms"] / ours[op]["ms"]
            said = "met" if ratio >= least else "missed"
            print(f"| {op}: {row['contender']} | >= {least} x | {ratio:.2f} x | {said} |")
    for op, row in ours.items():
        if "log-probs and dX" in op:
            most = 320e6 / 2**20 + 8192 * int(op.rpartition("H ")[2].replace(",", "")) * 2 / 2**20
            said = "met" if row["extra_mib"] <= most else "missed"
            print(f"| {op}: memory | <= {most:.0f} MiB | {row['extra_mib']:.0f} MiB | {said} |")
        elif op.startswith("log-probs"):
            said = "met" if float(row["error"]) <= 1e-5 else "missed"
            print(f"| {op}: error | <= 1e-5 | {row['error']} | {said} |")


def print_resources() -> None:
    """Compiled in a process of its own, without the interpreter."""
    if importlib.util.find_spec("triton") is None:
        print("\n(triton is not installed: no compile-time resources)")
        return
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_DEFAULT_FP_FUSION": "1"}
    environment["PYTHONSAFEPATH"] = "1"  # the folder of this repository shadows the package
    command = [sys.executable, "-m", resources.__name__]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    print("\n| kernel | " + " | ".join(resources.Resources._fields) + " |")
    print("|---|" + "---|" * len(resources.Resources._fields))
    for name, values in json.loads(out.stdout)["kernels"].items():
        print(f"| {name} | " + " | ".join(str(v) for v in values.values()) + " |")


def write(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time as a multiple of the fastest contender, ours marked."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    best: dict[str, float] = {}
    for row in rows:
        best[row["op"]] = min(best.get(row["op"], row["ms"]), row["ms"])
    labels = [f"{row['op']}: {row['contender']}" for row in rows]
    figure, axes = pyplot.subplots(figsize=(8, 0.3 * len(rows) + 1))
    colours = ["#2a6f97" if row["contender"] == "turnhalle" else "#b0b0b0" for row in rows]
    axes.barh(labels, [row["ms"] / best[row["op"]] for row in rows], color=colours)
    axes.invert_yaxis()
    axes.set_xlabel(f"time / fastest ({rows[0]['device']})")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
