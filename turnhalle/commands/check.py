"""`turnhalle check`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from turnhalle.commands.options import Difficulty, Options, make_console, parse_options

if TYPE_CHECKING:
    from turnhalle.envs.audit.core import Finding

_MARKS = {
    "ok": Text("ok", "green"),
    "failed": Text("FAILED", "red"),
    "unchecked": Text("unchecked", "yellow"),
}


def check(
    env: Annotated[
        str, typer.Argument(help="Id, short name, `module:Class`, `file.py:Class` or a folder.")
    ],
    difficulty: Difficulty = None,
    option: Options = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this check only; repeat.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the episodes.")] = False,
    budget: Annotated[
        float, typer.Option(help="Seconds for each environment; says what is left.", min=0.1)
    ] = float("inf"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line each.")] = False,
) -> None:
    """Audit an environment: its API, determinism, secrets, rewards and sturdiness.

    Exits with 1 where a check fails.

    Examples: `turnhalle check tools`; `turnhalle check guess.py:Guess --quick`;
    `turnhalle check mathproblems --option mode=calculator`;
    `turnhalle check my_env/ --budget 60 --json`.
    """
    from turnhalle.envs.audit.core import Finding, Subject, audit
    from turnhalle.envs.errors import ConfigError
    from turnhalle.envs.registry import resolve_all

    chosen = parse_options(option) | ({} if difficulty is None else {"difficulty": difficulty})
    failed = False
    factories = resolve_all(env, **chosen)
    for factory in factories:
        try:
            findings = list(audit(Subject(factory, is_quick=quick, budget_s=budget), only or ()))
        except ConfigError as error:
            if len(factories) == 1:
                raise
            findings = [Finding("options", "failed", str(error), 0.0)]  # the others go on
        failed |= not all(finding.is_ok for finding in findings)
        if as_json:
            for finding in findings:
                typer.echo(json.dumps({"env": factory.id, **asdict(finding)}))
        else:
            make_console().print(_table(factory.id, findings))
    if failed:
        raise typer.Exit(1)


def _table(id: str, findings: list[Finding]) -> Table:
    seconds = sum(finding.seconds for finding in findings)
    table = Table(title=f"audit of {id} ({seconds:.0f} s)", title_justify="left")
    for title in ("check", "", "found"):
        table.add_column(title)
    for finding in findings:
        table.add_row(finding.check, _MARKS[finding.verdict], finding.detail)
    return table
