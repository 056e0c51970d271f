"""Configuration: TOML and `--set key=value`, merged and validated by each layer's own models."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from turnhalle.envs.errors import ConfigError, unknown_name

Options = TypeVar("Options", bound=BaseModel)


def load_options(
    model: type[Options], recipe: str | None, overrides: Mapping[str, Any], sets: Sequence[str] = ()
) -> Options:
    """Merge a recipe, the command's own options and `--set` into a validated configuration.

    Args:
        model: The pydantic model of the options.
        recipe: A TOML file, or the name of a recipe that Turnhalle brings along; None is empty.
        overrides: Dotted keys and values; None values are left out.
        sets: Texts `key=value`, the value in TOML (a bare word is a string); these win.

    Raises:
        UnknownNameError: No such recipe, or no such key.
        ConfigError: A value that is not allowed.
    """
    data = {} if recipe is None else read_recipe(recipe)
    for key, value in overrides.items():
        if value is not None:
            _put(data, key, value)
    for text in sets:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set takes key=value, got {text!r}")
        _put(data, key.strip(), parse_value(value.strip()))
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error, model) from error


def read_recipe(name: str) -> dict[str, Any]:
    """The content of a recipe.

    Raises:
        UnknownNameError: No such file or recipe.
        ConfigError: The file is no text in UTF-8, or no TOML.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise unknown_name("recipe", name, recipes(), "Or give a TOML file that exists.")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"recipe {name} is no text in UTF-8: {error}") from error
    elif name in recipes():
        text = (files("turnhalle.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise unknown_name("recipe", name, recipes(), "Or give a TOML file.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe {name} is no TOML: {error}") from error


def recipes() -> list[str]:
    """Names of the recipes that Turnhalle brings along."""
    names = (entry.name for entry in files("turnhalle.recipes").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def parse_value(value: str) -> Any:
    """What a value on the command line means: TOML, or else the text itself."""
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"{key}: {parent} is a value, it has no keys")
    data[last] = value


def _explain(error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """The first problem, in words: the key, what was given, what is allowed."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _fields(model, path[:-1])
        where = ".".join(path[:-1])
        return unknown_name(f"key in {where!r}" if where else "key", path[-1], known)
    return ConfigError(f"{'.'.join(path)} = {first['input']!r}: {first['msg']}")


def _fields(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        if part.isdigit():
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
