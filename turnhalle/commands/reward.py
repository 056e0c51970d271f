"""`turnhalle reward`: list, check and fit rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from turnhalle.commands.options import make_console, next_folder, parse_options

reward = typer.Typer(
    help="List, check and fit rewards.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@reward.command("list")
def list_rewards() -> None:
    """List the rewards that are known by name, those of installed packages included.

    Example: `turnhalle reward list`.
    """
    from turnhalle.envs.rewards.catalogue import describe_rewards

    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    for name, what in describe_rewards().items():
        table.add_row(name, what)
    make_console().print(table)


@reward.command()
def check(
    name: Annotated[
        str, typer.Argument(help="A name of `turnhalle reward list`, or `module:reward`.")
    ],
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="An option of the reward: `--option price=0.1`; repeat."),
    ] = None,
) -> None:
    """Check that a reward says of its fixtures what it must. Exits with 1 where it does not.

    Examples: `turnhalle reward check exact`; `turnhalle reward check my_rewards:polite`;
    `turnhalle reward check cost --option price=0.1`.
    """
    from turnhalle.envs.rewards.catalogue import find_reward
    from turnhalle.envs.rewards.check import check_reward

    found = find_reward(name, **parse_options(option))
    problems = check_reward(found)
    console = make_console()
    low, high = found.range
    for problem in problems:
        console.print(Text.assemble(("FAILED", "red"), f" {found.name}: {problem}"))
    if problems:
        raise typer.Exit(1)
    what = f" {found.name}: {len(found.fixtures())} fixtures, {low:g} to {high:g}"
    console.print(Text.assemble(("ok", "green"), what))


@reward.command()
def fit(
    pairs: Annotated[
        Path, typer.Argument(help="JSONL with the texts `prompt`, `chosen` and `rejected`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write, new or empty; rewards/pairs-1 for pairs.jsonl."),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(help="transformers folder to embed texts with; TF-IDF where absent."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="`gaussian_process` or `kernel_ridge`.")
    ] = "gaussian_process",
) -> None:
    """Fit a reward from preference pairs, and measure it on a fifth of the prompts, held out.

    For 30 to 2,000 pairs, over text features (scikit-learn): a Gaussian process, which knows how
    uncertain it is of each text, or kernel ridge regression, which does not. Use it as
    `turnhalle.make_reward("kernel", folder=...)`.

    Examples: `turnhalle reward fit pairs.jsonl`;
    `turnhalle reward fit pairs.jsonl --out taste --kind kernel_ridge`.
    """
    from turnhalle.agents.stats import wilson
    from turnhalle.envs.rewards.fit import fit_kernel
    from turnhalle.envs.rewards.pairs import read_pairs
    from turnhalle.training.new_folder import require_new

    out = out or next_folder(Path("rewards"), pairs.stem)
    require_new(out)
    read = read_pairs(pairs)
    console = make_console()
    with console.status(f"fitting {len(read)} pairs"):
        model, measured = fit_kernel(read, embeddings, kind)
    model.save(out)
    accuracy = wilson(measured.right, measured.pairs)
    table = Table(title=f"{out}: {len(read) - measured.pairs} pairs, {measured.pairs} held out")
    table.add_column("held out")
    table.add_column("")
    table.add_row("accuracy [95 %]", accuracy.percent())
    table.add_row("mean confidence", f"{100 * measured.confidence:.0f} %")
    table.add_row("calibration error", f"{measured.calibration_error:.2f}")
    table.add_row("Brier score", f"{measured.brier:.3f} (a coin: 0.250)")
    console.print(table)
    if accuracy.low <= 0.5:
        console.print("This may be luck: a coin is within the interval. Collect more pairs.")
