"""`turnhalle bench`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from turnhalle.commands.options import Difficulty, EngineName, EnvName, Options, make_console


def bench(
    policy: Annotated[
        list[str],
        typer.Option(help="`tiny`, a model, a run's folder, `oracle`, `random` or `null`; repeat."),
    ],
    env: EnvName = "tools",
    tasks: Annotated[
        int, typer.Option("--tasks", "-n", help="Tasks, one episode each.", min=1)
    ] = 200,
    split: Annotated[str, typer.Option(help="`eval`, `test` or `train`.")] = "eval",
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0)] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of one turn.", min=1)] = 64,
    difficulty: Difficulty = None,
    option: Options = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampling.")] = 0,
    engine: EngineName = None,
) -> None:
    """Measure policies on the same held-out tasks.

    Success has a 95 % Wilson interval; the difference to the first policy is paired by task.

    Examples: `turnhalle bench --env tools --policy tiny --policy runs/tools-1 --policy oracle`;
    `turnhalle bench --env gsm8k --option path=test.jsonl --policy Qwen/Qwen3-0.6B -n 1000`.
    """
    from turnhalle.agents.engines.base import Sampling
    from turnhalle.agents.engines.options import EngineOptions
    from turnhalle.agents.evaluate import Evaluation, evaluate
    from turnhalle.agents.players import open_policy
    from turnhalle.commands.options import parse_options
    from turnhalle.config import load_options
    from turnhalle.envs.options import EnvOptions

    factory = EnvOptions(id=env, difficulty=difficulty, options=parse_options(option)).factory()
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    # Open all before playing any: a bad name must not cost the others' time.
    chosen = load_options(EngineOptions, None, {"name": engine})
    policies = [open_policy(name, factory, sampling, chosen) for name in policy]
    console = make_console()
    table = Table(
        title=f"{factory.id}, {tasks} tasks of split {split}, temperature {temperature:g}"
    )
    for title in ("policy", "success [95 %]", "return", "turns", "errors", "against the first"):
        table.add_column(title)
    first: Evaluation | None = None
    for player in policies:
        with console.status(f"playing {player.name}"):
            result = evaluate(factory, player, tasks, split=split, seed=seed)
        table.add_row(
            player.name,
            result.success.percent(),
            f"{result.mean_return:.2f}",
            f"{result.mean_turns:.1f}",
            str(result.num_errors),
            "" if first is None else result.gain_over(first).points(),
        )
        first = first or result
    console.print(table)
