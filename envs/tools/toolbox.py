"""`ToolEnv`: an environment whose actions are tool calls, until one is an answer.

Tools are methods marked with `@tool`, and plain functions listed in `functions`. Several calls in
one turn are answered in order, one message each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, final

from ..core import End, Message, Reply, ToolCall, ToolSpec
from ..env import TextEnv
from ..errors import ConfigError, EnvError, positive
from .canonical import parse_action
from .faults import MALFORMED, Fault, FaultKind, failed, unknown_tool
from .tool import Tool, ToolError


class ToolEnv(TextEnv):
    """A world that is acted on through tools; subclasses write tools, and `answer`.

    Class attributes an author may set besides those of `TextEnv`: `functions` (plain functions
    that are tools too), `max_parallel` (most calls answered in one turn, None for any number) and
    `free_tools` (names of tools that take nothing from the budget of calls).
    A tool that returns an `End` ends the episode.
    """

    system_prompt = ""
    functions: ClassVar[Sequence[Callable[..., Any]]] = ()
    max_parallel: ClassVar[int | None] = None
    free_tools: ClassVar[frozenset[str]] = frozenset()
    _tools: ClassVar[Mapping[str, Tool]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = {
            name: method
            for base in reversed(cls.__mro__)
            for name, method in vars(base).items()
            if getattr(method, "is_tool", False)
        }
        for name in methods:
            if hasattr(ToolEnv, name):
                raise ConfigError(
                    f"{cls.__name__}: {name} means something else in a ToolEnv; rename the tool"
                )
        tools = [Tool.of(method, is_method=True) for method in methods.values()]
        tools += [Tool.of(function) for function in cls.functions]
        cls._tools = {tool.spec.name: tool for tool in tools}

    def __init__(
        self, *, max_calls: int | None = None, fault_cost: float = 0.0, **options: Any
    ) -> None:
        """Take the options of a tool environment.

        Args:
            max_calls: Budget of calls an episode; None for no other limit than the turns.
            fault_cost: What a turn with a malformed call costs, as a reward part named
                `tools/<kind>`; at least 0.
            options: Those of `TextEnv`: difficulty, max_turns, render_mode.

        Raises:
            ConfigError: A value that cannot be.
        """
        super().__init__(**options)
        if max_calls is not None:
            positive("max_calls", max_calls)
        if not isinstance(fault_cost, int | float) or not 0.0 <= fault_cost < float("inf"):
            raise ConfigError(f"fault_cost must be a number of at least 0, got {fault_cost!r}")
        self.max_calls, self.fault_cost = max_calls, fault_cost
        if fault_cost:
            low, high = self.reward_range
            self.reward_range = (low - fault_cost * self.max_turns, high)
        self.faults: list[Fault] = []
        """What went wrong with the calls of the last step."""

    def answer(self, text: str) -> Reply:
        """Judge an action without tool calls: the final answer, usually an `End`."""
        raise NotImplementedError(f"{type(self).__name__} must define answer(self, text)")

    def toolbox(self) -> Mapping[str, Tool]:
        """The tools by name; those of the class unless overridden."""
        return self._tools

    def tools(self) -> list[ToolSpec]:
        """What a policy may know of the tools, in the order in which they were defined."""
        return [tool.spec for tool in self.toolbox().values()]

    def explain(self, fault: Fault) -> str:
        """What the policy reads about a fault."""
        return f"error: {fault.text}"

    def compose(self, results: list[Message]) -> Reply:
        """Put the answers to the calls of one turn together."""
        return Reply("\n".join([m.content for m in results]), messages=tuple(results))

    def happened(self, name: str, arguments: dict[str, Any]) -> None:
        """Take note of a call that is about to run, with its validated arguments."""

    @final
    def count_faults(self) -> dict[str, int]:
        """What went wrong with the calls of this step, counted by kind; rewards read it."""
        return Counter(fault.kind.value for fault in self.faults)

    @final
    def fault(self, kind: FaultKind, text: str) -> Reply:
        """Grade and answer something wrong that was found outside a tool; no call ran."""
        message = self._tell(Fault(kind, text))
        return Reply(message.content, messages=(message,))

    @final
    def respond(self, action: str) -> Reply:
        """Run the calls of an action, or judge its text where there are none."""
        self.faults = []
        if not self.toolbox():
            return self.answer(action)  # nothing can be called here, so nothing is a call
        parsed = parse_action(action)
        reply = self._run_all(parsed.items) if parsed.items else self.answer(parsed.text)
        if self.faults:
            reply = replace(reply, faults={**reply.faults, **self.count_faults()})
        if self.fault_cost and (costly := [f for f in self.faults if f.kind in MALFORMED]):
            parts = dict(reply.parts) or {"task": reply.reward}
            parts[f"tools/{costly[0].kind}"] = -self.fault_cost
            return replace(reply, parts=parts)
        return reply

    def _run_all(self, items: Sequence[ToolCall | Fault]) -> Reply:
        results: list[Message] = []
        spent = 0 if self.max_calls is None else self._spent()
        for number, item in enumerate(items):
            if number == self.max_parallel:
                text = f"only {number} calls a turn; {len(items) - number} were not run"
                results.append(self._tell(Fault(FaultKind.TOO_MANY_CALLS, text)))
                break
            if isinstance(item, Fault):
                results.append(self._tell(item))
                continue
            if self.max_calls is not None and item.name not in self.free_tools:
                spent += 1
                if spent > self.max_calls:
                    text = f"the {self.max_calls} calls of this episode are used up"
                    fault = Fault(FaultKind.OVER_BUDGET, text, item.name)
                    results.append(self._tell(fault, item.name))
                    continue
            result = self._run(item)
            if isinstance(result, End):
                return _after(results, result, item.name)
            results.append(result)
        return self.compose(results)

    def _run(self, call: ToolCall) -> Message | End:
        """Check and run one call."""
        name = call.name
        toolbox = self.toolbox()
        found = toolbox.get(name)
        if found is None:
            return self._tell(unknown_tool(name, toolbox), name)
        arguments = found.check(call.arguments)
        if isinstance(arguments, Fault):
            return self._tell(arguments, name)
        self.happened(name, arguments)
        try:
            if found.is_method:
                result = found.function(self, **arguments)
            else:
                result = found.function(**arguments)
            return result if isinstance(result, End) else _message(name, str(result))
        except ToolError as error:
            return self._tell(failed(name, FaultKind.REFUSED, error), name)
        except (ConfigError, EnvError):  # a world that broke, not a call that failed
            raise
        except Exception as error:  # a tool that fails is something the policy must deal with
            return self._tell(failed(name, FaultKind.CRASHED, error), name)

    def _spent(self) -> int:
        """Calls of earlier turns; read from the journal, so that a fork knows them too."""
        turns = (parse_action(action).items[: self.max_parallel] for action in self._journal[:-1])
        calls = (item for items in turns for item in items if isinstance(item, ToolCall))
        return sum(call.name not in self.free_tools for call in calls)

    def _tell(self, fault: Fault, name: str | None = None) -> Message:
        self.faults.append(fault)
        return _message(name, self.explain(fault))


def _message(name: str | None, content: str) -> Message:
    return Message(role="tool", name=name, content=content)


def _after(results: list[Message], end: End, name: str) -> End:
    """An end that also tells what the calls before it gave."""
    messages = (*results, _message(name, end.text))
    text = "\n".join([m.content for m in messages])
    # `replace` takes as long as all the rest.
    return End(text, end.reward, end.parts, end.faults, messages, success=end.success)
