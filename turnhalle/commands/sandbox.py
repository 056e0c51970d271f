"""`turnhalle sandbox`: what contains programs, what it holds against, and its image."""

from __future__ import annotations

from typing import Annotated

import typer

from turnhalle.commands.doctor import doctor, run
from turnhalle.commands.options import make_console
from turnhalle.envs.sandbox.docker.debian import MIRROR

sandbox = typer.Typer(
    help="What contains untrusted programs: attack it, use it, make its image.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (doctor, run):
    sandbox.command()(command)


@sandbox.command()
def image(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="`auto` (python:3.12-slim, or Debian where no registry answers), `debian`, or the "
            "name of any image with a full Python 3.",
        ),
    ] = "auto",
    mirror: Annotated[str, typer.Option(help="A mirror of Debian, for `debian`.")] = MIRROR,
    rebuild: Annotated[bool, typer.Option(help="Make it even if it is there.")] = False,
) -> None:
    """Make the image of the Docker tier, unless it is there.

    Examples: `turnhalle sandbox image`; `sudo turnhalle sandbox image --from debian`;
    `turnhalle sandbox image --from my/python --rebuild`.
    """
    from turnhalle.envs.sandbox.docker.client import connect
    from turnhalle.envs.sandbox.docker.image import ensure_image, find_image
    from turnhalle.envs.sandbox.docker.options import IMAGE

    console = make_console()
    client = connect()
    origin = find_image(client)
    if origin is not None and not rebuild and source in ("auto", origin.split()[0]):
        console.print(f"{IMAGE} is there, made from {origin}")
        return
    origin = ensure_image(client, source=source, mirror=mirror, say=console.print)
    console.print(f"{IMAGE} is made from {origin}")
