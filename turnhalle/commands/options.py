"""Command-line options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

EnvName = Annotated[
    str, typer.Option("--env", help="Id, short name, `module:Class` or `file.py:Class`.")
]
MaybeEnvName = Annotated[
    str | None, typer.Option("--env", help="Id, short name, `module:Class` or `file.py:Class`.")
]
MaybeModel = Annotated[
    str | None, typer.Option("--model", help="Model folder, Hugging Face name, or `tiny`.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any key of the configuration: `--set learn.learning_rate=1e-3`."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write; new, or empty.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="An option of the environment: `--option size=9`; repeat."),
]
Difficulty = Annotated[
    int | None, typer.Option("--difficulty", help="The environment's, from 1.", min=1)
]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="Who samples: `transformers`, `vllm`, or a server's URL."),
]


def make_console() -> Console:
    """A console that prints what it is given: no markup, no emoji, no colours of its own.

    Answers, names and paths are others', and may look like markup; what is to have a colour is a
    `Text`. A `console.status` reads markup whatever the console says: give it a `Text` too.
    """
    return Console(markup=False, emoji=False, highlight=False)


def parse_options(given: list[str] | None) -> dict[str, Any]:
    """Options of an environment from `name=value`; values are TOML, other words are text.

    Raises:
        ConfigError: Text without `=`.
    """
    from turnhalle.config import parse_value
    from turnhalle.envs.errors import ConfigError

    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--option takes name=value, got {text!r}")
        options[name.strip()] = parse_value(value.strip())
    return options


def next_folder(parent: Path, name: str) -> Path:
    """The first of parent/name-1, parent/name-2, ... that does not exist."""
    number = 1
    while (parent / f"{name}-{number}").exists():
        number += 1
    return parent / f"{name}-{number}"


def short_name(env: str) -> str:
    """An environment's name as part of a folder's: `turnhalle/Tools-v0` is tools."""
    name = env.rpartition(":")[2].rpartition("/")[2]
    return name.split("-v")[0].lower()
