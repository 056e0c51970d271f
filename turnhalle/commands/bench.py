"""`turnhalle bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from turnhalle.commands.options import (
    Difficulty,
    EngineName,
    EnvName,
    Options,
    make_console,
    parse_options,
)

if TYPE_CHECKING:
    from turnhalle.agents.evaluate import Evaluation


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

    Success has a 95 % Wilson interval; the difference to the first policy is paired by task. Where
    tool calls go wrong, `faults` says how many a turn, and of which kind most are.

    Examples: `turnhalle bench --env tools --policy tiny --policy runs/tools-1 --policy oracle`;
    `turnhalle bench --env gsm8k --option path=test.jsonl --policy Qwen/Qwen3-0.6B -n 1000`.
    """
    from turnhalle.agents.engines.base import Sampling
    from turnhalle.agents.engines.options import EngineOptions
    from turnhalle.agents.evaluate import evaluate
    from turnhalle.agents.players import open_policy
    from turnhalle.config import load_options
    from turnhalle.envs.options import EnvOptions

    factory = EnvOptions(id=env, difficulty=difficulty, options=parse_options(option)).factory()
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    # Open all before playing any: a bad name must not cost the others' time.
    chosen = load_options(EngineOptions, None, {"name": engine})
    policies = [open_policy(name, factory, sampling, chosen) for name in policy]
    console = make_console()
    results = []
    for player in policies:
        with console.status(Text(f"playing {player.name}")):
            results.append(evaluate(factory, player, tasks, split=split, seed=seed))
    title = f"{factory.id}, {tasks} tasks of split {split}, temperature {temperature:g}"
    console.print(_table(title, results))


def _table(title: str, results: Sequence[Evaluation]) -> Table:
    """One row a policy; faults have a column where there are any."""
    table = Table(title=title)
    has_faults = any(result.faults for result in results)
    for name in ("policy", "success [95 %]", "return", "turns"):
        table.add_column(name)
    if has_faults:
        table.add_column("faults")
    for name in ("errors", "against the first"):
        table.add_column(name)
    for result in results:
        row = [
            result.policy,
            result.success.percent(),
            f"{result.mean_return:.2f}",
            f"{result.mean_turns:.1f}",
        ]
        if has_faults:
            row.append(_shown(result.faults))
        gain = "" if result is results[0] else result.gain_over(results[0]).points()
        table.add_row(*row, str(result.num_errors), gain)
    return table


def _shown(faults: Mapping[str, float]) -> str:
    """Their number a turn, and the most frequent kind: `0.31 unknown_tool ...`."""
    if not faults:
        return "0"
    more = " ..." if len(faults) > 1 else ""
    return f"{sum(faults.values()):.2f} {next(iter(faults))}{more}"
