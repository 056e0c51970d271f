"""`turnhalle prime`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from turnhalle.commands.options import (
    MaybeEnvName,
    MaybeModel,
    Out,
    Seed,
    Sets,
    make_console,
    next_folder,
    short_name,
)


def prime(
    recipe: Annotated[str | None, typer.Argument(help="TOML file or name of a recipe.")] = None,
    env: MaybeEnvName = None,
    model: MaybeModel = None,
    mistakes: Annotated[
        float | None, typer.Option(help="How often demonstrators err, 0 to 1.", min=0, max=1)
    ] = None,
    seed: Seed = None,
    set: Sets = None,
    out: Out = None,
) -> None:
    """Let a policy imitate the oracle of an environment, until it succeeds sometimes.

    Any environment with an oracle will do, your own too. Writes a model folder that
    `turnhalle train --model` takes. Priming ends once success at temperature 1 reaches `stop_at`
    (40 %), or after its steps: what follows is the business of reinforcement learning.

    Examples: `turnhalle prime --env guess.py:Guess --out primed`; `turnhalle prime tiny`.
    """
    from turnhalle.agents.models import require_packages

    require_packages("nf4")
    from turnhalle.commands.display import prime_display
    from turnhalle.config import load_options
    from turnhalle.envs.errors import ConfigError
    from turnhalle.training.prime import PrimeOptions
    from turnhalle.training.prime import prime as run

    if (env is None) == (recipe is None):
        raise ConfigError("give an environment (--env) or a recipe, and not both")
    overrides: dict[str, Any] = {"model": model, "seed": seed}
    if env is not None:
        demo = {"env": {"id": env}} | ({} if mistakes is None else {"mistakes": mistakes})
        overrides["demos"] = [demo]
    options = load_options(PrimeOptions, recipe, overrides, set or ())
    folder = out or next_folder(Path("models"), short_name(env or recipe or "primed"))
    console = make_console()
    with prime_display(console) as listener:
        result = run(options, folder, listener)
    for id, evaluation in result.evaluations.items():
        console.print(f"{id}: held-out success {evaluation.success.percent()}")
    name = env or options.demos[0].env.id
    if options.adapter.rank is None:
        made, start = "model", f"--model {folder}"
    else:
        made, start = "adapter", f"--model {options.model} --set start_from={folder}"
    console.print(
        f"{made:7} {folder}\nnext    turnhalle train --env {name} {start}", soft_wrap=True
    )
