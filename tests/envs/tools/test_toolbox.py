"""Environments that are acted on through tools."""

from __future__ import annotations

import random
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.errors import EndpointError, EnvError
from turnhalle.envs.tools.formats import render_call


class Desk(th.ToolEnv):
    """A desk."""

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        self.noted: list[str] = []
        return f"Note {self.instance['n']}."

    @th.tool
    def note(self, text: str, times: int = 1) -> str:
        """Write something down.

        As often as asked.
        """
        self.noted += [text] * times
        return f"{len(self.noted)} notes"

    @th.tool
    def burn(self) -> str:
        """Burn everything."""
        raise OSError("no matches")

    def answer(self, text: str) -> th.Reply:
        return th.End("bye", success=self.noted == [str(self.instance["n"])])


@pytest.fixture
def desk() -> Desk:
    env = Desk()
    env.reset(seed=0)
    return env


def test_signatures_become_schemas() -> None:
    note, burn = Desk().tools()
    assert note.description == "Write something down."
    assert note.parameters["properties"]["times"] == {"type": "integer", "default": 1}
    assert note.parameters["required"] == ["text"]
    assert burn.parameters["properties"] == {}


def test_tools_are_told_on_reset() -> None:
    _, info = Desk().reset(seed=0)
    assert [tool.name for tool in info["tools"]] == ["note", "burn"]


def test_calls_run_in_order_and_answer_one_message_each(desk: Desk) -> None:
    action = render_call("note", text="a", times=2) + render_call("note", text="b")
    observation, *_, info = desk.step(action)
    assert observation == "2 notes\n3 notes"
    assert [(m.role, m.name) for m in info["messages"]] == [("tool", "note")] * 2
    assert desk.noted == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (render_call("note"), "error: note: text: field required"),
        (render_call("note", text="a", times="many"), "error: note: times: input should be"),
        (render_call("note", text="a", colour="red"), "error: note: colour: extra inputs"),
        (render_call("erase"), "error: no tool 'erase'; tools: note, burn"),
        (render_call("burn"), "error: no matches"),
        ("<tool_call>nonsense</tool_call>", "error: the tool call is no JSON"),
    ],
)
def test_bad_calls_are_answered_and_change_nothing(desk: Desk, call: str, said: str) -> None:
    observation, _, terminated, _, _ = desk.step(call)
    assert observation.startswith(said)
    assert not terminated
    assert not desk.noted


def test_text_without_calls_is_the_answer(desk: Desk) -> None:
    desk.step(render_call("note", text=str(desk.instance["n"])))
    _, _, terminated, _, info = desk.step("done")
    assert terminated
    assert info["success"]


class Metered(Desk):
    """A desk whose calls cost, and whose post goes through a server."""

    def settle(self, reply: th.Reply) -> th.Reply:
        return th.Reply(reply.text, parts={"calls": -0.5 * len(reply.messages)})

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
