"""The command line: one typer application, one module a command."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

import turnhalle
from turnhalle.commands.bench import bench
from turnhalle.commands.check import check
from turnhalle.commands.envs import envs
from turnhalle.commands.new import new
from turnhalle.commands.play import play
from turnhalle.commands.prime import prime
from turnhalle.commands.quantize import quantize
from turnhalle.commands.reward import reward
from turnhalle.commands.runs import runs
from turnhalle.commands.sandbox import sandbox
from turnhalle.commands.train import train
from turnhalle.envs.errors import InterruptedRunError, TurnhalleError

app = typer.Typer(
    help="A gym for agents that act in turns: environments, training, honest benchmarks.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, bench, prime, quantize, check, envs, play, new, runs):
    app.command()(command)
app.add_typer(reward, name="reward")
app.add_typer(sandbox, name="sandbox")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(turnhalle.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    # Environments of one's own are imported from where the command is run.
    if "" not in sys.path:
        sys.path.insert(0, "")


def main() -> None:
    """Run a command; an error of ours is one clear message, not a traceback."""
    try:
        app(standalone_mode=True)
    except InterruptedRunError as error:
        typer.secho(f"{error}", err=True)
        sys.exit(130)
    except TurnhalleError as error:
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        typer.secho(f"error: no room to write: {error}", fg=typer.colors.RED, err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho("stopped", err=True)
        sys.exit(130)
