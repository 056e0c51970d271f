"""A tool: a plain function or method whose signature is its schema.

Arguments are validated by pydantic. What is wrong with them, and what a tool raises, becomes a
`Fault` for the policy to read, never an exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NotRequired, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ..core import ToolSpec
from ..errors import ConfigError, TurnhalleError
from .faults import Fault, bad_arguments

F = TypeVar("F", bound=Callable[..., Any])

Check = Callable[[dict[str, Any]], "dict[str, Any] | Fault"]


class ToolError(TurnhalleError, ValueError):
    """What a tool raises when the world does not allow a call; its text is the observation."""

    boundary = "tool"


def tool(function: F) -> F:
    """Mark a method of a `ToolEnv` as a tool; its docstring's first paragraph describes it."""
    function.is_tool = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, slots=True)
class Tool:
    """What can be called: the schema, the check of the arguments, and the code."""

    spec: ToolSpec
    function: Callable[..., Any]
    """Takes the arguments by name; a method takes its environment first."""
    is_method: bool
    check: Check
    """Returns the arguments as the function takes them, or what is wrong with them."""

    @classmethod
    def of(cls, function: Callable[..., Any], *, is_method: bool = False) -> Tool:
        """Make a tool of a function by its signature and the first paragraph of its docstring.

        Raises:
            ConfigError: An argument without a type, `*args` or `**kwargs`, or an async function.
        """
        name = getattr(function, "__name__", type(function).__name__)
        parameters = _parameters(name, function)[is_method:]
        adapter = _adapter(name, function, parameters)
        schema = _schema(adapter, parameters)
        paragraph = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0]
        description = " ".join(paragraph.split())
        spec = ToolSpec(name=name, description=description, parameters=schema)
        return cls(spec, function, is_method, _check(spec, adapter.validator.validate_python))


def _check(spec: ToolSpec, validate: Callable[[Any], Any]) -> Check:
    names = tuple(spec.parameters["properties"])

    def check(arguments: dict[str, Any]) -> dict[str, Any] | Fault:
        try:
            checked: dict[str, Any] = validate(arguments)
        except ValidationError as error:
            return bad_arguments(spec.name, error, names)
        return checked

    return check


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"tool {name} is async; tools are plain functions")
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"tool {name}: {parameter} has no schema; name each argument")
    return parameters


def _adapter(
    name: str, function: Callable[..., Any], parameters: list[inspect.Parameter]
) -> TypeAdapter[dict[str, Any]]:
    """The check of all arguments together; what has a default may be left out."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name not in hints:
            raise ConfigError(f"tool {name}: give argument {parameter.name} a type")
        hint = hints[parameter.name]
        fields[parameter.name] = hint if parameter.default is parameter.empty else NotRequired[hint]
    # No BaseModel: an argument may be called `copy` or `schema`, and a dictionary is faster.
    make: Any = TypedDict  # type checkers know only fields that are written out
    arguments = make(name, fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)
    return TypeAdapter(arguments)


def _schema(
    adapter: TypeAdapter[dict[str, Any]], parameters: list[inspect.Parameter]
) -> dict[str, Any]:
    schema = adapter.json_schema()
    for noise in ("title", "additionalProperties"):
        schema.pop(noise, None)
    properties = schema.setdefault("properties", {})
    for parameter in parameters:
        properties[parameter.name].pop("title", None)
        if parameter.default is not parameter.empty:
            properties[parameter.name]["default"] = parameter.default
    return schema
