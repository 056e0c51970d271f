"""Modules by name, and files by path: where the classes of environments come from."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .errors import ConfigError, TurnhalleError, UnknownNameError

_PASSED_OVER = {"build", "dist", "tests", "node_modules", "site-packages"}
_NO_WORLDS = {"conftest.py", "setup.py"}


def environment_files(folder: Path) -> list[Path]:
    """The Python files of a folder that may define environments: no tests, nothing hidden."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        parents = path.relative_to(folder).parts[:-1]
        is_inside = not any(part in _PASSED_OVER or part.startswith(".") for part in parents)
        if is_inside and path.name not in _NO_WORLDS and not path.name.startswith("test_"):
            found.append(path)
    return found


def import_module(name: str) -> ModuleType:
    """Import a module by name, or a file by path (once); a file of a package as a part of it.

    Raises:
        UnknownNameError: There is no such module or file.
        ConfigError: The file fails when it is imported.
    """
    if not name.endswith(".py"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0] and error.name != name:
                raise
            hint = "Give a module that can be imported from here, or a path that ends in .py."
            raise UnknownNameError(f"no module named {name!r}. {hint}") from error
    path = Path(name).resolve()
    if not path.is_file():
        raise UnknownNameError(f"no file {name!r} (looked for {path})")
    try:
        return _part_of_package(path) if _is_in_package(path) else _alone(path)
    except TurnhalleError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} failed on import: {type(error).__name__}: {error}") from error


def _is_in_package(path: Path) -> bool:
    return (path.parent / "__init__.py").is_file()


def _part_of_package(path: Path) -> ModuleType:
    """Import a file under its name in its package, so that it finds the files beside it."""
    names = [] if path.stem == "__init__" else [path.stem]
    root = path.parent
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    is_new = str(root) not in sys.path
    if is_new:  # before an installed copy of the package, but only now
        sys.path.insert(0, str(root))
    try:
        module = importlib.import_module(".".join(names))
    finally:
        if is_new:
            sys.path.append(sys.path.pop(sys.path.index(str(root))))
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise ConfigError(
            f"{path} is {module.__name__} in its package, but that is {module.__file__} here; "
            "give the module's name, or uninstall the other one"
        )
    return module


def _alone(path: Path) -> ModuleType:
    # Modules of the same file name in different folders must not meet.
    digest = hashlib.blake2b(str(path).encode(), digest_size=4).hexdigest()
    module_name = f"turnhalle_file_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    found = importlib.util.spec_from_file_location(module_name, path)
    if found is None or found.loader is None:
        raise ConfigError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(found)
    module.__turnhalle_name__ = path.name  # type: ignore[attr-defined]
    sys.modules[module_name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
