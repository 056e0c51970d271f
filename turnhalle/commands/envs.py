"""`turnhalle envs`."""

from __future__ import annotations

from rich.table import Table

from turnhalle.commands.options import make_console


def envs() -> None:
    """List the registered environments.

    Example: `turnhalle envs`. Your own need no registration: commands take `file.py:Class` too.
    """
    from turnhalle.envs.errors import ConfigError
    from turnhalle.envs.registry import registered, resolve

    table = Table()
    table.add_column("id", no_wrap=True)
    for title in ("turns", "tools", "difficulty", "oracle", "what"):
        table.add_column(title)
    for id in registered():
        factory = resolve(id)
        what = (factory.cls.__doc__ or "").partition("\n")[0]
        try:
            env = factory()
        except ConfigError:  # it needs an option, such as a file
            table.add_row(id, "", "", "", "", f"{what} (needs options)")
            continue
        table.add_row(
            id,
            str(env.max_turns),
            ", ".join(tool.name for tool in env.tools()) or "-",
            str(env.difficulty),
            "yes" if env.has_oracle else "no",
            what,
        )
    make_console().print(table)
