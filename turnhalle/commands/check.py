"""`turnhalle check`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from turnhalle.commands.options import make_console


def check(
    env: Annotated[str, typer.Argument(help="Id, short name, `module:Class` or `file.py:Class`.")],
) -> None:
    """Audit an environment: API, determinism, forks, splits, oracle, the policy that says nothing.

    Exits with 1 where a check fails.

    Examples: `turnhalle check tools`; `turnhalle check guess.py:Guess`.
    """
    from turnhalle.envs.audit import audit
    from turnhalle.envs.registry import resolve

    factory = resolve(env)
    console = make_console()
    table = Table(title=f"audit of {factory.id}")
    for title in ("check", "", "found"):
        table.add_column(title)
    failed = False
    for finding in audit(factory):
        failed |= not finding.is_ok
        mark = "[green]ok[/]" if finding.is_ok else "[red]FAILED[/]"
        table.add_row(finding.check, mark, finding.detail)
    console.print(table)
    if failed:
        raise typer.Exit(1)
