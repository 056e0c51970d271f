"""`report.html`: the curves of a run and what it came to, in one file that needs no network."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from turnhalle.agents.core import Trajectory
from turnhalle.agents.evaluate import recall
from turnhalle.agents.store import RunStore
from turnhalle.envs.tools.formats import readable

_CURVES = (
    ("success", "success"),
    ("return", "return"),
    ("turns", "turns"),
    ("entropy", "entropy (nats a token)"),
    ("kl", "KL of the update (nats a token)"),
    ("clip_fraction", "clipped tokens"),
    ("grad_norm", "gradient norm"),
    ("skipped_groups", "groups without variance"),
    ("time/tokens_per_second", "tokens a second"),
)
_SMOOTHING = 5


def write_report(folder: Path) -> Path:
    """Write `report.html` from the run's store; returns its path."""
    store = RunStore(folder, read_only=True)
    steps = store.evaluated_steps()
    evaluations = {step: recall(store, step) for step in steps}
    first, last = evaluations[steps[0]], evaluations[steps[-1]]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        (files("turnhalle.training") / "report.html.jinja").read_text(encoding="utf-8")
    )
    html = template.render(
        name=folder.name,
        options=store.get("options"),
        evaluations=[(step, done.success, done.mean_return) for step, done in evaluations.items()],
        gain=last.gain_over(first).points(),
        learning_curve=learning_curve(store),
        curves=small_curves(store),
        episode=improved_episode(first.trajectories, last.trajectories),
        readable=readable,
        events=store.events(),
    )
    store.close()
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


def improved_episode(
    before: list[Trajectory], after: list[Trajectory]
) -> tuple[Trajectory, Trajectory] | None:
    """The first task that was failed before and solved after, as played both times."""
    pairs = zip(before, after, strict=True)
    return next(((b, a) for b, a in pairs if a.success and not b.success), None)


def learning_curve(store: RunStore, format: str = "svg") -> Any:
    """Success by step: training rollouts, their running mean, and held-out tasks with intervals."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    train = store.metrics("success")
    xs, ys = [step for step, _ in train], [value for _, value in train]
    axes.plot(xs, ys, ".", color="0.75", label="training rollouts, one step")
    smooth = [
        sum(ys[max(0, i + 1 - _SMOOTHING) : i + 1]) / min(i + 1, _SMOOTHING) for i in range(len(ys))
    ]
    axes.plot(xs, smooth, color="tab:blue", label=f"mean of {_SMOOTHING} steps")
    for number, step in enumerate(store.evaluated_steps()):
        estimate = recall(store, step).success
        bars = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
        label = "held-out tasks, 95 % interval" if number == 0 else None
        axes.errorbar(
            [step], [estimate.value], yerr=bars, fmt="o", color="tab:red", capsize=3, label=label
        )
    axes.set(xlabel="step", ylabel="success", ylim=(-0.02, 1.02))
    axes.legend(frameon=False, loc="lower right")
    axes.grid(alpha=0.3)
    return _render(figure, format)


def small_curves(store: RunStore) -> str:
    """The other metrics by step, as one SVG."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(3, 3, figsize=(9, 6), layout="constrained")
    for axes, (name, title) in zip(grid.flat, _CURVES, strict=True):
        points = store.metrics(name)
        axes.plot([step for step, _ in points], [value for _, value in points], lw=1)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    svg: str = _render(figure, "svg")
    return svg


def _render(figure: Any, format: str) -> Any:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    # A fixed salt and no date make the file depend on the run alone.
    with plt.rc_context({"svg.hashsalt": "turnhalle"}):
        figure.savefig(buffer, format=format, metadata={"Date": None} if format == "svg" else None)
    plt.close(figure)
    if format != "svg":
        return buffer.getvalue()
    return buffer.getvalue().decode().partition("<svg")[2].join(["<svg", ""])
