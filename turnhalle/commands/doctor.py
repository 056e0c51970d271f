"""`turnhalle sandbox doctor` and `turnhalle sandbox run`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.table import Table
from rich.text import Text

from turnhalle.commands.options import make_console
from turnhalle.envs.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from turnhalle.envs.sandbox.doctor import Examination
    from turnhalle.envs.sandbox.options import TierName

_MARKS = {
    "holds": Text("holds", "green"),
    "BROKEN": Text("BROKEN", "red"),
    "not claimed": Text("–", "dim"),
}
_DEFAULT = ("bubblewrap", "docker", "landlock")

Tiers = Annotated[list[str] | None, typer.Option("--tier", help="Examine this tier only; repeat.")]


def doctor(
    tier: Tiers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line a tier.")] = False,
) -> None:
    """Attack every sandbox that this machine has, and say what it holds against.

    Exits with 1 where a property that a tier claims is broken, or where no tier that contains
    works here. The tier `unsafe` claims next to nothing and is not attacked.

    Examples: `turnhalle sandbox doctor`; `turnhalle sandbox doctor --tier bubblewrap --json`.
    """
    from turnhalle.envs.sandbox.doctor import examine
    from turnhalle.envs.sandbox.options import SandboxOptions

    chosen = [_tier(name, _DEFAULT) for name in tier or _DEFAULT]
    examinations = [examine(name, SandboxOptions()) for name in chosen]
    for examination in examinations:
        if as_json:
            typer.echo(json.dumps(asdict(examination) | {"is_sound": examination.is_sound}))
    if not as_json:
        _print(examinations)
    are_sound = all(examination.is_sound for examination in examinations)
    if not are_sound or all(examination.unavailable for examination in examinations):
        raise typer.Exit(1)


def run(
    file: Annotated[Path, typer.Argument(help="A Python file.", exists=True, dir_okay=False)],
    tier: Annotated[str, typer.Option(help="auto, bubblewrap, docker or landlock.")] = "auto",
    cpu: Annotated[float, typer.Option(help="CPU-seconds it may use.", min=0.01)] = 2.0,
    wall: Annotated[float, typer.Option(help="Seconds it may take.", min=0.01)] = 10.0,
) -> None:
    """Run a Python file in a sandbox; what this command reads is the program's standard input.

    Prints what the program printed, then how it ended; exits with 1 if that was not `ok`.

    Example: `turnhalle sandbox run solution.py --cpu 1`.
    """
    from turnhalle.envs.sandbox.core import Limits, Program, Status
    from turnhalle.envs.sandbox.options import SandboxOptions, open_sandbox

    name = "auto" if tier == "auto" else _tier(tier, ("auto", *_DEFAULT))
    try:
        code = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no UTF-8 text: {error}") from None
    stdin = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    with open_sandbox(SandboxOptions(tier=name, slots=1)) as sandbox:
        result = sandbox.run(Program(code, stdin=stdin), Limits(cpu_s=cpu, wall_s=wall))
    typer.echo(result.stdout, nl=False)
    typer.echo(result.stderr, nl=False, err=True)
    usage = result.usage
    typer.echo(
        f"{result.status}{': ' if result.detail else ''}{result.detail} in {usage.wall_s:.3f} s, "
        f"{usage.cpu_s:.3f} CPU-s, {usage.max_memory_bytes >> 20} MiB ({result.isolation.tier})",
        err=True,
    )
    if result.status is not Status.OK:
        raise typer.Exit(1)


def _tier(name: str, allowed: tuple[str, ...]) -> TierName:
    from turnhalle.envs.sandbox.options import TierName as Known

    if name not in allowed or name not in get_args(Known):
        raise unknown_name("tier", name, allowed)
    return name  # type: ignore[return-value]


def _print(examinations: list[Examination]) -> None:
    console = make_console()
    seen = [each for each in examinations if not each.unavailable]
    if seen:
        table = Table(title="what holds", title_justify="left")
        for title in ("property", *(each.tier for each in seen)):
            table.add_column(title)
        for row in zip(*(each.findings for each in seen), strict=True):
            table.add_row(row[0].property, *(_MARKS[finding.verdict] for finding in row))
        console.print(table)
    for each in examinations:
        if each.unavailable:
            why = f" is not available: {each.unavailable}"
            console.print(Text.assemble((each.tier, "yellow"), why))
        for gap in each.gaps:
            console.print(Text.assemble((each.tier, "yellow"), f": {gap}"))
        for finding in each.findings:
            if finding.verdict == "BROKEN":
                what = f"{each.tier}, {finding.property}"
                console.print(Text.assemble((what, "red"), f": {finding.detail}"))
