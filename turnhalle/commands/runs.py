"""`turnhalle runs`."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from turnhalle.commands.options import make_console

if TYPE_CHECKING:
    from turnhalle.agents.store import RunStore


def runs(
    folder: Annotated[Path | None, typer.Argument(help="A run; all in ./runs by default.")] = None,
    episode: Annotated[int | None, typer.Option(help="Show this episode.")] = None,
    step: Annotated[int | None, typer.Option(help="List the episodes of this step.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the episode to this .html or .gif (Pac-Man).")
    ] = None,
) -> None:
    """Look at runs, their evaluations, and their episodes.

    Examples: `turnhalle runs`; `turnhalle runs runs/tools-1 --step 40`;
    `turnhalle runs runs/tools-1 --episode 17`;
    `turnhalle runs runs/pacman-1 --episode 17 --export game.html`.
    """
    from turnhalle.agents.store import FILE, RunStore
    from turnhalle.commands.summary import print_transcript
    from turnhalle.envs.errors import ConfigError

    console = make_console()
    if export is not None and (folder is None or episode is None):
        raise ConfigError("--export writes one episode of a run: turnhalle runs RUN --episode N")
    if folder is None:
        found = sorted(path.parent for path in Path("runs").glob(f"*/{FILE}"))
        _list_runs(console, found)
        return
    with closing(RunStore(folder, read_only=True)) as store:
        if episode is not None and export is not None:
            _export(store, folder, episode, export)
            console.print(f"wrote {export}")
        elif episode is not None:
            print_transcript(console, store.episode(episode))
        elif step is not None:
            _list_episodes(console, store, step)
        else:
            _list_evaluations(console, store, folder)


def _export(store: RunStore, folder: Path, episode: int, path: Path) -> None:
    from turnhalle.agents.saved import read_options
    from turnhalle.commands.export import require_replay
    from turnhalle.envs.options import EnvOptions

    played = store.episode(episode)
    begun = store.get("options", {})
    world = read_options(EnvOptions, begun.get("env"), folder).factory()()
    actions = [turn.action for turn in played.turns]
    require_replay(world, path).export_replay(played.task, actions, path)


def _list_runs(console: Console, folders: list[Path]) -> None:
    if not folders:
        console.print("no runs in ./runs yet; make one with: turnhalle train")
        return
    table = Table()
    for title in ("run", "environment", "model", "steps", "held-out success"):
        table.add_column(title)
    for folder in folders:
        table.add_row(str(folder), *_summed_up(folder))
    console.print(table)


def _summed_up(folder: Path) -> list[str]:
    """The cells of a run; one that cannot be read must not take the others away."""
    from turnhalle.agents.store import RunStore
    from turnhalle.envs.errors import StoreError

    try:
        with closing(RunStore(folder, read_only=True)) as store:
            options = store.get("options")
            if options is None:
                return ["-", "-", "not begun"]
            curve = [f"{value:.0%}" for _, value in store.metrics("eval/success")]
            done = store.metrics("success")[-1:]
    except StoreError as error:
        return ["-", "-", f"unreadable: {error}"]
    steps = f"{done[0][0] if done else 0} of {options['steps']}"
    return [options["env"]["id"], options["model"]["name"], steps, " > ".join(curve)]


def _list_evaluations(console: Console, store: RunStore, folder: Path) -> None:
    from turnhalle.agents.evaluate import recall
    from turnhalle.agents.saved import not_begun

    options = store.get("options")
    if options is None:
        raise not_begun(folder)
    table = Table(title=f"{folder}: {options['env']['id']} with {options['model']['name']}")
    for title in ("step", "held-out success [95 %]", "return", "turns", "episodes"):
        table.add_column(title)
    for step in store.evaluated_steps():
        ids = store.episode_ids("eval", step)
        done = recall(store, step)
        table.add_row(
            str(step), done.success.percent(), f"{done.mean_return:.2f}", f"{done.mean_turns:.1f}",
            f"{ids[0]} to {ids[-1]}",
        )  # fmt: skip
    console.print(table)
    for (step, kind), events in groupby(store.events(), key=lambda event: event[:2]):
        texts = [text for *_, text in events]
        count = f" ({len(texts)} times)" if len(texts) > 1 else ""
        console.print(f"step {step}: {kind}{count}: {texts[0]}")


def _list_episodes(console: Console, store: RunStore, step: int) -> None:
    table = Table(title=f"step {step}")
    for title in ("episode", "phase", "task", "sample", "outcome", "return", "turns"):
        table.add_column(title)
    for phase in ("train", "eval"):
        for id in store.episode_ids(phase, step):
            played = store.episode(id)
            outcome = "solved" if played.success else str(played.stop)
            table.add_row(
                str(id), phase, str(played.task.index), str(played.sample), outcome,
                f"{played.episode_return:.2f}", str(len(played.turns)),
            )  # fmt: skip
    console.print(table)
