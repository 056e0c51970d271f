"""What a run prints in the end."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from turnhalle.agents.core import Trajectory
from turnhalle.agents.process import peak_memory
from turnhalle.agents.store import RunStore
from turnhalle.envs.tools.formats import readable
from turnhalle.training.options import TrainOptions
from turnhalle.training.report import improved_episode
from turnhalle.training.trainer import RunResult


def print_summary(console: Console, options: TrainOptions, result: RunResult, report: Path) -> None:
    """Before and after with intervals, where things are, and an episode that got better."""
    before, after = result.before, result.after
    table = Table(title=f"{options.env.id}: the same {len(before.trajectories)} held-out tasks")
    for title in ("", "success [95 %]", "return", "turns"):
        table.add_column(title)
    for name, done in (("before", before), ("after", after)):
        table.add_row(
            name, done.success.percent(), f"{done.mean_return:.2f}", f"{done.mean_turns:.1f}"
        )
    console.print()
    console.print(table)
    console.print(f"gain: {after.gain_over(before).points()} (paired)")
    console.print(_cost(options, result.folder), soft_wrap=True)
    episode = improved_episode(before.trajectories, after.trajectories)
    if episode is not None:
        console.print("\nA task that was failed before:", style="bold")
        print_transcript(console, episode[0])
        console.print("\nThe same task now:", style="bold")
        print_transcript(console, episode[1])
    console.print(
        f"\nadapter  {result.adapter}\nreport   {report}\n"
        f"episodes turnhalle runs {result.folder}\n"
        f"again    turnhalle bench --env {options.env.id} --policy {result.folder} "
        f"--policy {options.model.name}",
        soft_wrap=True,
    )


def _cost(options: TrainOptions, folder: Path) -> str:
    """Time and memory, with the options that trade them."""
    store = RunStore(folder, read_only=True)
    updates = [seconds for _, seconds in store.metrics("time/update")]
    store.close()
    model = options.model
    held = (
        f"model.kernels = {model.kernels!r}, model.compile = {str(model.compile).lower()}, "
        f"model.gradient_checkpointing = {str(model.gradient_checkpointing).lower()}"
    )
    took = f"an update took {median(updates):.2f} s (median), and" if updates else "no update;"
    return f"cost: {took} {peak_memory()} was held at most ({held})"


def print_transcript(console: Console, played: Trajectory) -> None:
    """An episode, turn by turn; what the policy said is marked with >."""
    for turn in played.turns:
        console.print(turn.observation, style="dim")
        console.print(f"> {readable(turn.action)}", style="cyan")
    outcome = "solved" if played.success else f"failed ({played.stop})"
    console.print(played.final_observation, style="dim")
    console.print(f"{outcome}, return {played.episode_return:.2f}")
