"""The shop is judged by its final state and the answer, whatever the way there."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.env import TextEnv
from turnhalle.envs.seeding import derive_rng
from turnhalle.envs.tools.formats import describe, from_canonical, parse_action, render_call


def shop_with(kind: str) -> TextEnv:
    env = th.make("tools")
    for task in range(100):
        env.reset(options={"task": task})
        if env.instance["kind"] == kind:
            return env
    raise AssertionError(f"no task of kind {kind}")


def finish(env: TextEnv) -> tuple[float, bool]:
    earned, info = 0.0, {}
    while not env.is_over:
        _, reward, _, _, info = env.step(env.oracle())  # type: ignore[assignment]
        earned += reward
    return earned, bool(info["success"])


def test_the_shop_is_to_the_letter_the_one_that_the_built_in_policy_learned_in() -> None:
    """Tasks, observations, rewards, oracle, mistakes, and the words about bad calls."""
    played = [transcript(index) for index in range(200)]
    digest = hashlib.blake2b(json.dumps(played).encode(), digest_size=16).hexdigest()
    assert digest == "c67971a74ec568a6920c5ea600deb033"


def transcript(index: int) -> list[Any]:
    env, rng = th.make("turnhalle/Tools-v0"), derive_rng("transcript", index)
    observation, info = env.reset(options={"task": index, "difficulty": 1 + index % 4})
    tools = info["tools"]
    rows: list[Any] = [env.instance, observation, describe(tools, "compact")]
    rows += [message.model_dump() for message in info["messages"]]
    rows += [tool.model_dump() for tool in tools]
    while not env.is_over:
        action, mistake, roll = env.oracle(), env.mistake(rng), rng.random()
        compact = from_canonical(action, "compact", tools)
        if roll < 0.2:
            action = mistake
        elif roll < 0.35:
            action = rng.choice(BAD)
        observation, reward, *_, info = env.step(action)
        rows += [action, compact, mistake, observation, reward, info.get("success")]
        rows += [message.model_dump() for message in info["messages"]]
    return rows


BAD = [
    "<tool_call>nonsense</tool_call>",
    '<tool_call>["price"]</tool_call>' + render_call("price", item="fig"),
    render_call("price", item="fig", extra="b c"),
    render_call("refund", id=7),
    render_call("order", id="pear"),
    render_call("erase", all=True),
]


@pytest.mark.parametrize(("kind", "calls"), [("cost", 2), ("refund", 3), ("return", 4)])
def test_each_kind_needs_its_calls(kind: str, calls: int) -> None:
    env = shop_with(kind)
    assert finish(env) == (1.0, True)
    assert env.turn == calls + 1


def test_all_calls_may_come_in_one_turn() -> None:
    env = shop_with("refund")
    order = env.instance["order"]
    price = env.instance["prices"][env.instance["orders"][order]]
    env.step(render_call("refund", id=int(order), amount=price))
    *_, info = env.step("Done.")
    assert info["success"]


def test_the_right_answer_without_the_deed_fails() -> None:
    env = shop_with("refund")
    *_, info = env.step("done")
    assert not info["success"]


def test_the_deed_with_a_wrong_answer_fails() -> None:
    env = shop_with("return")
    right = str(env.instance["stock"][env.instance["orders"][env.instance["order"]]] + 1)
    while parse_action(env.oracle()).calls:
        env.step(env.oracle())
    assert env.oracle() == right
    *_, info = env.fork().step(right + "1")
    assert not info["success"]
    *_, info = env.step(right)
    assert info["success"]


def test_a_wrong_refund_cannot_be_made_good() -> None:
    env = shop_with("refund")
    env.step(render_call("refund", id=int(env.instance["order"]), amount=1))
    observation, *_ = env.step(render_call("refund", id=int(env.instance["order"]), amount=2))
    assert observation == "error: refunded already"
    assert finish(env) == (0.0, False)


def test_more_than_was_asked_fails_too() -> None:
    env = shop_with("cost")
    item = env.instance["orders"][env.instance["order"]]
    env.step(render_call("restock", item=item))
    *_, info = env.step(str(env.instance["prices"][item]))
    assert not info["success"]
