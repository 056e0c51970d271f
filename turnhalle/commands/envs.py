"""`turnhalle envs`."""

from __future__ import annotations

from rich.table import Table

from turnhalle.commands.options import make_console


def envs() -> None:
    """List the registered environments.

    Example: `turnhalle envs`. Your own need no registration: commands take `file.py:Class` too.
    """
    from turnhalle.envs.registry import registered, resolve

    table = Table()
    table.add_column("id", no_wrap=True)
    for title in ("turns", "tools", "difficulty", "oracle", "what"):
        table.add_column(title)
    for id in registered():
        env = resolve(id)()
        table.add_row(
            id,
            str(env.max_turns),
            ", ".join(tool.name for tool in env.tools()) or "-",
            str(env.difficulty),
            "yes" if env.has_oracle else "no",
            (type(env).__doc__ or "").partition("\n")[0],
        )
    make_console().print(table)
