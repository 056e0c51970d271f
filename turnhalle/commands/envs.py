"""`turnhalle envs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from turnhalle.commands.options import make_console

if TYPE_CHECKING:
    from turnhalle.envs.env import TextEnv

_WIDE = 110
"""Columns of a terminal that leave room for a sentence on each."""


def envs() -> None:
    """List the registered environments.

    Example: `turnhalle envs`. Your own need no registration: commands take `file.py:Class` too.
    """
    from turnhalle.envs.errors import ConfigError
    from turnhalle.envs.registry import registered, resolve

    console = make_console()
    is_wide = console.width >= _WIDE
    table = Table(caption=None if is_wide else "a wider terminal also shows what each one is")
    table.add_column("id", no_wrap=True)
    for title in ("family", "turns", "tools", "difficulty", "oracle", *["what"] * is_wide):
        table.add_column(title)
    for id in registered():
        factory = resolve(id)
        what = (factory.cls.__doc__ or "").partition("\n")[0]
        try:
            env = factory()
        except ConfigError:  # it needs an option, such as a file
            table.add_row(id, *["-"] * 5, *[f"{what} (needs options)"] * is_wide)
            continue
        table.add_row(
            id,
            _family(env),
            str(env.max_turns),
            str(len(env.tools()) or "-"),
            str(env.difficulty),
            "yes" if env.has_oracle else "no",
            *[what] * is_wide,
        )
    console.print(table)


def _family(env: TextEnv) -> str:
    """The folder of a built-in environment; the top-level module of any other."""
    module = type(env).__module__
    inside = module.removeprefix("turnhalle.envs.")
    return inside.partition(".")[0]
