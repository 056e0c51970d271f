"""The report as a table and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from .compare import Row


def markdown(rows: Sequence[Row]) -> str:
    """A table, one row a way to hold the policy."""
    lines = [
        "| weights | MB | of 16 bits | KL, nats a token | success [95 %] | against 16 bits | "
        "tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    first = rows[0]
    for row in rows:
        gain = "" if row is first else row.evaluation.gain_over(first.evaluation).points()
        speed = "" if row.tokens_per_second is None else f"{row.tokens_per_second:.0f}"
        lines.append(
            f"| {row.name} | {row.num_bytes / 1e6:.2f} | {row.num_bytes / first.num_bytes:.0%} | "
            f"{row.kl:.2g} | {row.evaluation.success.percent()} | {gain} | {speed} |"
        )
    return "\n".join(lines) + "\n"


def svg(rows: Sequence[Row]) -> str:
    """KL and success by size, as one SVG that depends on the rows alone."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for number, row in enumerate(rows):
        size, success = row.num_bytes / 1e6, row.evaluation.success
        marker = "o" if row.tokens_per_second is not None else "s"
        style: dict[str, Any] = {"color": f"C{number}", "marker": marker, "ls": "none"}
        left.plot([size], [row.kl], label=row.name, **style)
        bars = [[success.value - success.low], [success.high - success.value]]
        right.errorbar([size], [success.value], yerr=bars, capsize=3, **style)
    left.set(xlabel="MB of weights", ylabel="KL from the policy (nats a token)", yscale="log")
    right.set(xlabel="MB of weights", ylabel="success, 95 % interval", ylim=(-0.02, 1.02))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    buffer = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "turnhalle"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()
