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
    from turnhalle.envs.env import TextEnv
    from turnhalle.envs.registry import registered

    console = make_console()
    is_wide = console.width >= _WIDE
    table = Table(caption=None if is_wide else "a wider terminal also shows what each one is")
    table.add_column("id", no_wrap=True)
    for title in ("family", "turns", "tools", "difficulty", "oracle", *["what"] * is_wide):
        table.add_column(title)
    for id in registered():
        cls, env, note = _built(id)
        if cls is None:
            table.add_row(id, *["-"] * 5, *[note] * is_wide)
            continue
        about = env or cls
        what = f"{(cls.__doc__ or '').partition(chr(10))[0]} {note}".rstrip()
        table.add_row(
            id,
            _family(cls),
            str(about.max_turns),
            str(len(env.tools()) or "-") if env else "-",
            str(about.difficulty),
            "no" if cls.oracle is TextEnv.oracle else "yes",
            *[what] * is_wide,
        )
    console.print(table)


def _built(id: str) -> tuple[type[TextEnv] | None, TextEnv | None, str]:
    """The class, an environment where one can be made without options, and what is to be said."""
    from turnhalle.envs.errors import ConfigError
    from turnhalle.envs.registry import resolve

    cls = None
    try:
        factory = resolve(id)
        cls = factory.cls
        return cls, factory(), ""
    except ConfigError as error:  # most need an option, such as a file
        return cls, None, "(needs options)" if cls else f"(broken: {error})"
    except Exception as error:  # one broken plug-in must not take the others away
        return cls, None, f"(broken: {type(error).__name__}: {error})"


def _family(cls: type[TextEnv]) -> str:
    """The folder of a built-in environment; the top-level module of any other."""
    inside = cls.__module__.removeprefix("turnhalle.envs.")
    return inside.partition(".")[0]
