"""`ToolEnv`: an environment whose actions are tool calls, until one is an answer.

Tools are methods marked with `@tool`; their signature is their schema. Arguments are validated by
pydantic, and what is wrong with them comes back as an observation, never as an exception.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, final, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ..core import Message, Reply, ToolCall, ToolSpec
from ..env import TextEnv
from ..errors import OutsideError
from .formats import parse_action

F = TypeVar("F", bound=Callable[..., Any])


def tool(method: F) -> F:
    """Mark a method of a `ToolEnv` as a tool; its docstring's first line describes it."""
    method.is_tool = True  # type: ignore[attr-defined]
    return method


class ToolEnv(TextEnv):
    """A world that is acted on through tools; subclasses write tools and `answer`."""

    _specs: ClassVar[dict[str, ToolSpec]] = {}
    _arguments: ClassVar[dict[str, type[BaseModel]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = {
            name: method
            for base in reversed(cls.__mro__)
            for name, method in vars(base).items()
            if getattr(method, "is_tool", False)
        }
        cls._arguments = {name: _arguments_model(name, m) for name, m in methods.items()}
        cls._specs = {name: _spec(name, m, cls._arguments[name]) for name, m in methods.items()}

    def answer(self, text: str) -> Reply:
        """Judge an action without tool calls: the final answer, usually an `End`."""
        raise NotImplementedError(f"{type(self).__name__} must define answer(self, text)")

    def settle(self, reply: Reply) -> Reply:
        """What a turn of calls earns or leads to; by default the results stand as they are."""
        return reply

    def tools(self) -> list[ToolSpec]:
        """The tools, in the order in which they were defined."""
        return list(self._specs.values())

    @final
    def respond(self, action: str) -> Reply:
        """Run the calls of an action, or judge its text where there are none."""
        parsed = parse_action(action)
        if not parsed.calls and not parsed.problems:
            return self.answer(parsed.text)
        messages = [self._run(call) for call in parsed.calls]
        messages += [Message(role="tool", content=f"error: {p}") for p in parsed.problems]
        said = "\n".join(m.content for m in messages)
        return self.settle(Reply(said, messages=tuple(messages)))

    def _run(self, call: ToolCall) -> Message:
        return Message(role="tool", name=call.name, content=self._result(call))

    def _result(self, call: ToolCall) -> str:
        model = self._arguments.get(call.name)
        if model is None:
            return f"error: no tool {call.name!r}; tools: {', '.join(self._specs)}"
        try:
            arguments = model.model_validate(call.arguments)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return f"error: {call.name}: {where}: {first['msg'].lower()}"
        values = {name: getattr(arguments, name) for name in model.model_fields}
        try:
            return str(getattr(self, call.name)(**values))
        except OutsideError:
            raise  # what a tool asked outside failed; that is not for the policy to deal with
        except Exception as error:  # a tool that fails is something the policy must deal with
            return f"error: {error}"


def _arguments_model(name: str, method: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(method)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in parameters
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _spec(name: str, method: Callable[..., Any], arguments: type[BaseModel]) -> ToolSpec:
    schema = arguments.model_json_schema()
    for noise in ("title", "additionalProperties"):
        schema.pop(noise, None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    description = inspect.cleandoc(method.__doc__ or "").split("\n")[0]
    return ToolSpec(name=name, description=description, parameters=schema)
