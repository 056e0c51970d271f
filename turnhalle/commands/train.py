"""`turnhalle train`."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnhalle.commands.options import (
    Difficulty,
    EngineName,
    MaybeEnvName,
    MaybeModel,
    Out,
    Seed,
    Sets,
    make_console,
    next_folder,
    short_name,
)

if TYPE_CHECKING:
    from turnhalle.agents.ranks import World
    from turnhalle.training.options import TrainOptions


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="TOML file or name of a recipe; `quickstart` by default.")
    ] = None,
    env: MaybeEnvName = None,
    model: MaybeModel = None,
    steps: Annotated[
        int | None, typer.Option(help="Batches of rollouts, an update each.", min=1)
    ] = None,
    seed: Seed = None,
    difficulty: Difficulty = None,
    engine: EngineName = None,
    set: Sets = None,
    out: Out = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with an interrupted run in this folder.")
    ] = None,
) -> None:
    """Train a policy in an environment by multi-turn GRPO.

    Ends with success before and after on the same held-out tasks, the adapter's folder, an episode
    that got better, and `report.html`. Ctrl-C writes a checkpoint and says how to go on.

    Examples: `turnhalle train`; `turnhalle train --env math --seed 1`;
    `turnhalle train --env guess.py:Guess --model primed --set rollout.group_size=16`;
    `turnhalle train --resume runs/tools-1`.
    """
    from turnhalle.agents.models import require_packages

    require_packages()
    from turnhalle.agents.ranks import open_world
    from turnhalle.config import load_options
    from turnhalle.envs.errors import ConfigError
    from turnhalle.training.options import TrainOptions

    overrides: dict[str, Any] = {
        "env.id": env,
        "model.name": model,
        "seed": seed,
        "env.difficulty": difficulty,
        "engine.name": engine,
    }
    if resume is None:
        overrides["steps"] = steps
        options = load_options(TrainOptions, recipe or "quickstart", overrides, set or ())
        folder = out
    elif recipe or out or set or any(value is not None for value in overrides.values()):
        raise ConfigError("a resumed run keeps its options; only --steps may change")
    else:
        options, folder = _saved_options(resume, steps), resume
    with open_world(options.model.device) as world:
        name = short_name(options.env.id)
        folder = world.first(lambda: folder or next_folder(Path("runs"), name))
        _run(options, folder, resume is not None, world)


def _run(options: TrainOptions, folder: Path, is_resumed: bool, world: World) -> None:
    """Train; the first of several processes shows it."""
    from turnhalle.commands.display import train_display
    from turnhalle.commands.summary import print_summary
    from turnhalle.training.progress import Silent
    from turnhalle.training.report import write_report
    from turnhalle.training.trainer import Trainer

    console = make_console()
    display = train_display(console, options, folder) if world.is_first else nullcontext(Silent())
    with (
        display as listener,
        closing(Trainer(options, folder, listener, resume=is_resumed, world=world)) as trainer,
    ):
        result = trainer.run()
    if world.is_first:
        print_summary(console, options, result, write_report(folder))


def _saved_options(folder: Path, steps: int | None) -> TrainOptions:
    """The options of an interrupted run.

    Raises:
        StoreError: There is none, or it had not begun.
        ConfigError: It has done more steps, or its options are not of this version.
    """
    from turnhalle.agents.saved import read_options
    from turnhalle.agents.store import RunStore
    from turnhalle.envs.errors import ConfigError
    from turnhalle.training.options import TrainOptions

    with closing(RunStore(folder, read_only=True)) as store:
        options = read_options(TrainOptions, store.get("options"), folder)
        done = max((step for step, _ in store.metrics("success")), default=0)
    if steps is not None and steps < done:
        raise ConfigError(f"{folder} has done {done} steps already; give --steps {done} or more")
    return options.model_copy(update={"steps": steps or options.steps})
