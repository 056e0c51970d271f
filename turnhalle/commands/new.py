"""`turnhalle new`."""

from __future__ import annotations

import keyword
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from turnhalle.commands.options import make_console

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "{name}/__init__.py": "init.py",
    "{name}/env.py": "env.py",
    "tests/test_env.py": "test_env.py",
}
"""Each file of a new package, and what it is made from in `turnhalle/skeleton`."""


def new(
    name: Annotated[str, typer.Argument(help="Name of the package: lower case, as in `my_env`.")],
) -> None:
    """Start an environment of your own: a small package that passes its checks at once.

    Example: `turnhalle new my_env`, then `cd my_env` and `turnhalle check my_env.env:MyEnv`.
    """
    import jinja2

    from turnhalle.envs.errors import ConfigError

    folder = Path(name)
    if name.isidentifier() and folder.exists():
        # Said before the name is looked at: it is a module of that name, from here.
        raise ConfigError(f"{folder} is there already; take another name, or move it away")
    require_name(name)
    class_name = "".join(word.capitalize() for word in name.split("_"))
    words = {
        "name": name,
        "class_name": class_name,
        "project": name.strip("_").replace("_", "-"),
        "id": f"{name}/{class_name}-v0",
    }
    skeleton = files("turnhalle") / "skeleton"
    page = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    for target, source in _FILES.items():
        path = folder / target.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        template = (skeleton / f"{source}.jinja").read_text(encoding="utf-8")
        path.write_text(page.from_string(template).render(words), encoding="utf-8")
    make_console().print(
        f"{folder}/ is a package with an environment that sorts numbers; make it yours:\n"
        f"  cd {folder}\n"
        f"  turnhalle check {name}.env:{class_name}\n"
        f"  turnhalle play {name}.env:{class_name}\n"
        f"  pytest"
    )


def require_name(name: str) -> None:
    """Refuse what cannot be the name of a package.

    Raises:
        ConfigError: No lower-case identifier, a word of Python, or a module that exists.
    """
    from turnhalle.envs.errors import ConfigError

    if not (name.isascii() and name.isidentifier() and name == name.lower() and name.strip("_")):
        raise ConfigError(
            f"{name!r} cannot be the name of a package; take small letters, digits and _, "
            "a letter first: my_env"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ConfigError(f"{name!r} is a word of Python; take another name")
    # Python puts the folder that one works in before what is installed.
    taken = name in sys.stdlib_module_names or name in ("turnhalle", "tests")
    if taken or name in sys.modules or find_spec(name) is not None:
        raise ConfigError(f"{name!r} would hide the module {name}; take another name")
