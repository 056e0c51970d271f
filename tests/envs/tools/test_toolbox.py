"""Environments that are acted on through tools."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import turnhalle as th
from turnhalle.envs.errors import ConfigError, EndpointError, EnvError
from turnhalle.envs.tools.formats import render_call
from turnhalle.envs.tools.tool import Tool


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Desk(th.ToolEnv):
    """A desk."""

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        self.noted: list[str] = []
        return f"Note {self.instance['n']}."

    @th.tool
    def note(self, text: str, times: Annotated[int, Field(le=5)] = 1) -> str:
        """Write something down.

        As often as asked.
        """
        self.noted += [text] * times
        return f"{len(self.noted)} notes"

    @th.tool
    def burn(self) -> str:
        """Burn everything."""
        raise OSError("no matches")

    @th.tool
    def look(self) -> str:
        """Look around."""
        raise th.ToolError("it is dark")

    functions = (add,)

    def answer(self, text: str) -> th.Reply:
        return th.End("bye", success=self.noted == [str(self.instance["n"])])


@pytest.fixture
def desk() -> Desk:
    env = Desk()
    env.reset(seed=0)
    return env


def test_signatures_become_schemas() -> None:
    note, burn, *_ = Desk().tools()
    assert note.description == "Write something down."
    assert note.parameters["properties"]["times"] == {
        "type": "integer",
        "maximum": 5,
        "default": 1,
    }
    assert note.parameters["required"] == ["text"]
    assert burn.parameters["properties"] == {}


def test_tools_are_told_on_reset() -> None:
    _, info = Desk().reset(seed=0)
    assert [tool.name for tool in info["tools"]] == ["note", "burn", "look", "add"]


def test_calls_run_in_order_and_answer_one_message_each(desk: Desk) -> None:
    action = render_call("note", text="a", times=2) + render_call("note", text="b")
    observation, *_, info = desk.step(action)
    assert observation == "2 notes\n3 notes"
    assert [(m.role, m.name) for m in info["messages"]] == [("tool", "note")] * 2
    assert desk.noted == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (render_call("note"), "missing_argument: note: text is missing; arguments: text, times"),
        (
            render_call("note", text="a", times="many"),
            "wrong_type: note: times: input should be a valid integer, unable to parse string as "
            "an integer, got 'many'",
        ),
        (render_call("note", text="a", times=1.5), "wrong_type: note: times: input should be"),
        (render_call("note", text=None), "wrong_type: note: text: input should be a valid string"),
        (render_call("note", text="a", times=9), "bad_value: note: times: input should be less"),
        (
            render_call("note", text="a", colour="red"),
            "extra_argument: note: no argument colour; arguments: text, times",
        ),
        (render_call("burn", fast=True), "extra_argument: burn: no argument fast; arguments: none"),
        (
            render_call("nite", text="a"),
            "unknown_tool: no tool 'nite'; did you mean note? tools: note, burn, look, add",
        ),
        (render_call("burn"), "crashed: burn failed: OSError: no matches"),
        (render_call("look"), "refused: it is dark"),
        ("<tool_call>nonsense</tool_call>", "bad_json: the tool call is no JSON: Expecting value"),
        ('<tool_call>{"name": "note"', "bad_json: the tool call is no JSON: Expecting ','"),
        ('<tool_call>["note"]</tool_call>', 'bad_shape: a tool call is {"name": "...", '),
        ('<tool_call>{"name": "note", "arguments": 3}</tool_call>', "bad_shape: a tool call is"),
    ],
)
def test_bad_calls_are_graded_answered_and_change_nothing(desk: Desk, call: str, said: str) -> None:
    kind, _, words = said.partition(": ")
    observation, _, terminated, _, _ = desk.step(call)
    assert observation.startswith(f"error: {words}")
    assert [fault.kind for fault in desk.faults] == [kind]
    assert not terminated
    assert not desk.noted


def test_faults_are_those_of_the_last_step(desk: Desk) -> None:
    desk.step(render_call("erase") + render_call("note"))
    assert [fault.kind for fault in desk.faults] == ["unknown_tool", "missing_argument"]
    desk.step(render_call("note", text="a"))
    assert not desk.faults


def test_what_cannot_be_read_is_answered_in_its_place(desk: Desk) -> None:
    calls = [render_call("note", text="a"), "<tool_call>{</tool_call>", render_call("add", a=1)]
    *_, info = desk.step("".join(calls))
    assert [m.content[:13] for m in info["messages"]] == [
        "1 notes",
        "error: the to",
        "error: add: b",
    ]


def test_plain_functions_are_tools_too(desk: Desk) -> None:
    assert desk.step(render_call("add", a=2, b=3))[0] == "5"
    schema = desk.tools()[-1].parameters
    assert schema["properties"]["a"] == {"type": "integer"}


def test_a_tool_that_returns_an_end_ends_the_episode() -> None:
    class Bell(Desk):
        @th.tool
        def ring(self) -> th.End:
            """Ring it."""
            return th.End("Ding.", success=True, reward=1.0)

    env = Bell()
    env.reset(seed=0)
    action = render_call("note", text="a") + render_call("ring") + render_call("note", text="b")
    observation, reward, terminated, _, info = env.step(action)
    assert (observation, reward, terminated) == ("1 notes\nDing.", 1.0, True)
    assert env.noted == ["a"]
    assert [m.name for m in info["messages"]] == ["note", "ring"]


def test_the_budget_is_for_the_episode_and_survives_a_fork() -> None:
    env = Desk(max_calls=3)
    env.reset(seed=0)
    env.step(render_call("note", text="a") * 2)
    twin = env.fork()
    for world in (env, twin):
        observation, *_ = world.step(render_call("note", text="b") * 2)
        assert observation == "3 notes\nerror: the 3 calls of this episode are used up"
        assert [fault.kind for fault in world.faults] == ["over_budget"]
    env.reset(seed=0)
    assert env.step(render_call("note", text="a"))[0] == "1 notes"


def test_calls_beyond_the_limit_of_a_turn_are_not_run() -> None:
    class Hurried(Desk):
        max_parallel = 2

    env = Hurried()
    env.reset(seed=0)
    observation, *_ = env.step(render_call("note", text="a") * 5)
    assert observation == "1 notes\n2 notes\nerror: only 2 calls a turn; 3 were not run"
    assert len(env.noted) == 2


def test_malformed_calls_may_cost_once_a_turn() -> None:
    env = Desk(fault_cost=0.25)
    assert env.reward_range == (-0.25 * env.max_turns, 1.0)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(render_call("erase") * 3)
    assert reward == -0.25
    assert info["parts"] == {"task": 0.0, "tools/unknown_tool": -0.25}
    _, reward, _, _, info = env.step(render_call("look"))
    assert (reward, info["parts"]) == (0.0, {})


@pytest.mark.parametrize("options", [{"max_calls": 0}, {"max_calls": 1.5}, {"fault_cost": -1}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
        Desk(**options)


def test_a_tool_may_not_take_a_name_of_the_contract() -> None:
    with pytest.raises(ConfigError, match="state means something else"):

        class Wrong(th.ToolEnv):
            @th.tool
            def state(self) -> str:  # type: ignore[override]
                """Shadow."""
                return ""


async def slow() -> str:
    return ""


def untyped(a) -> str:  # type: ignore[no-untyped-def]
    return ""


def anything(**words: str) -> str:
    return ""


@pytest.mark.parametrize(
    ("function", "said"),
    [(slow, "is async"), (untyped, "give argument a a type"), (anything, "name each argument")],
)
def test_functions_without_a_schema_are_refused(function: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tool.of(function)


NASTY = [
    '{"name": "note", "arguments": {"text": ' + "[" * 10_000 + "]" * 10_000 + "}}",
    '{"name": "note", "arguments": {"text": ' + "[" * 500 + "]" * 500 + "}}",
    '{"name": "note", "arguments": ' + '{"text": ' * 10_000 + "1" + "}" * 10_000 + "}",
    '{"name": "add", "arguments": {"a": ' + "9" * 100_000 + ', "b": 1}}',
    '{"name": "add", "arguments": {"a": 1e999, "b": NaN}}',
    '{"name": "add", "arguments": {"a": "x", "b": "x", "a": "y"}}',
    '{"name": "note", "arguments": {"text": "\\ud800", "times": 0.5}}',
    '{"name": "note", "arguments": {"\\udfff": "a"}}',
    '{"name": "\\ud800\\u0000", "arguments": {}}',
    '{"name": "note", "arguments": {"text": "\ud800"}}',
    '{"name": "note", "arguments": {"text": "\\ud800"}}',
    '{"name": "note", "arguments": {"text": "\x00\x1b[2J"}}',
    '{"name": "' + "n" * 100_000 + '"}',
    "\x00",
    "",
]


@pytest.mark.parametrize("body", NASTY, ids=range(len(NASTY)))
def test_attacks_are_answered_shortly(desk: Desk, body: str) -> None:
    observation, *_ = desk.step(f"<tool_call>{body}</tool_call>")
    assert observation.startswith("error: ")
    assert len(observation) < 500
    observation.encode()


def test_a_key_that_occurs_twice_counts_as_its_last(desk: Desk) -> None:
    body = '{"name": "add", "arguments": {"a": 1, "b": 2, "a": 5}}'
    assert desk.step(f"<tool_call>{body}</tool_call>")[0] == "7"


def test_many_broken_calls_do_not_take_long(desk: Desk) -> None:
    started = time.process_time()
    desk.step('<tool_call>{"</tool_call>' * 20_000)
    desk.step('<tool_call>{"' * 20_000)
    assert time.process_time() - started < 5


@given(st.text() | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")), st.text())
def test_no_action_raises(name: str, text: str) -> None:
    env = Desk()
    env.reset(seed=0)
    env.step(f"<tool_call>{text}</tool_call>")
    env.step(render_call(name, **{text: name}))
    env.step(render_call("note", text=name, **({text: 1} if text else {})))
    env.step(render_call("add", a=text, b=name))


def test_text_without_calls_is_the_answer(desk: Desk) -> None:
    desk.step(render_call("note", text=str(desk.instance["n"])))
    _, _, terminated, _, info = desk.step("done")
    assert terminated
    assert info["success"]


class Metered(Desk):
    """A desk whose calls cost, and whose post goes through a server."""

    def compose(self, results: list[th.Message]) -> th.Reply:
        return replace(super().compose(results), parts={"calls": -0.5 * len(results)})

    @th.tool
    def post(self) -> str:
        """Send it all off."""
        raise EndpointError("endpoint: the server is down")


def test_an_environment_may_settle_what_calls_cost() -> None:
    env = Metered()
    env.reset(seed=0)
    _, reward, _, _, info = env.step(render_call("note", text="a") * 3)
    assert (reward, info["parts"]) == (-1.5, {"calls": -1.5})


def test_a_fault_outside_is_not_for_the_policy_to_deal_with() -> None:
    env = Metered()
    env.reset(seed=0)
    with pytest.raises(EnvError, match="the server is down"):
        env.step(render_call("post"))
