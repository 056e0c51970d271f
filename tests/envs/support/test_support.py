"""The desk pays what a support desk would pay, and nothing else pays."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.audit.core import Subject, audit
from turnhalle.envs.env import TextEnv
from turnhalle.envs.errors import ConfigError, UnknownNameError
from turnhalle.envs.registry import resolve
from turnhalle.envs.support.cases import PATIENCE, least_minutes, right_action
from turnhalle.envs.support.env import Support
from turnhalle.envs.tools.formats import parse_action, render_call

CASE: dict[str, Any] = {
    "name": "Ada",
    "account": 4821,
    "persona": "calm",
    "tells_account": False,
    "needs": [{"order": 57, "item": "lamp", "wish": "refund"}],
    "orders": {
        "57": {"item": "lamp", "price": 25, "days": 12, "stock": 1},
        "63": {"item": "fan", "price": 30, "days": 80, "stock": 1},
    },
}


def desk_for(**changes: Any) -> Support:
    """A desk with the case above, changed; `days`, `price` and `stock` are those of order 57."""
    case = json.loads(json.dumps(CASE))
    for name, value in changes.items():
        if name in case["orders"]["57"]:
            case["orders"]["57"][name] = value
        elif name == "wish":
            case["needs"][0]["wish"] = value
        else:
            case[name] = value
    env = Support()
    env.begin(th.Task(env.id, "train", 0, 1, case))
    return env


def play(env: TextEnv, *actions: str) -> tuple[float, dict[str, Any]]:
    """The return so far and the last info."""
    earned, info = 0.0, {}
    for action in actions:
        _, reward, _, _, info = env.step(action)  # type: ignore[assignment]
        earned += reward
    return earned, info


def oracle_plays(env: TextEnv) -> tuple[float, dict[str, Any]]:
    earned, info = 0.0, {}
    while not env.is_over:
        _, reward, _, _, info = env.step(env.oracle())  # type: ignore[assignment]
        earned += reward
    return earned, info


def test_a_case_goes_like_this() -> None:
    env = desk_for()
    assert env.picture() == "Hello, it is about my lamp. I want my money back."
    earned, info = play(
        env,
        "What is your account number?",
        render_call("account", id=4821),
        render_call("order", id=57),
        render_call("refund", order=57),
        "I refunded 25 euros.",
    )
    assert info["success"]
    assert earned == pytest.approx(2.0)
    assert info["parts"] == {
        "minutes": -0.1,
        "satisfied": 1.0,
        "resolved": 1.0,
        "needed_minutes": pytest.approx(0.5),
    }
    assert [line for _, line in env.desk.said] == [
        "Hello, it is about my lamp. I want my money back.",
        "What is your account number?",
        "Account 4821.",
        "I refunded 25 euros.",
        "Thank you. Goodbye.",
    ]


def test_the_audit_passes_at_every_difficulty() -> None:
    for difficulty in (1, 2, 3):
        subject = Subject(resolve("support", difficulty=difficulty), is_quick=True)
        assert [f for f in audit(subject) if not f.is_ok] == []


def test_the_oracle_takes_the_least_minutes_and_earns_the_maximum() -> None:
    for difficulty in (1, 2, 3):
        for task in range(200):
            env = th.make("support", difficulty=difficulty)
            env.reset(options={"task": task})
            earned, info = oracle_plays(env)
            assert info["success"]
            assert earned == pytest.approx(env.reward_range[1])
            assert env.turn == least_minutes(env.instance)


def _moves(env: Support) -> list[str]:
    """Everything that could help: all calls with all numbers, and all things to say."""
    case = env.instance
    numbers = {int(n) for n in case["orders"]} | {need["order"] for need in case["needs"]}
    calls = [render_call("account", id=case["account"])]
    for n in sorted(numbers):
        calls.append(render_call("order", id=n))
        calls += [render_call(t, order=n) for t in ("refund", "replace", "decline", "escalate")]
    prices = {f"I refunded {order['price']} euros." for order in case["orders"].values()}
    days = {f"It comes in {o['arrives']} days." for o in case["orders"].values() if "arrives" in o}
    told = ["A replacement comes.", "I cannot do that.", "A colleague takes over."]
    asked = ["Sorry! Account number?", "What would you like?", "Sorry! Account? What do you want?"]
    return [*calls, *sorted(prices), *sorted(days), *told, *asked]


@pytest.mark.parametrize("difficulty", [1, 2])
def test_no_way_to_success_is_shorter_than_declared(difficulty: int) -> None:
    for task in range(6):
        env = Support(difficulty=difficulty)
        env.reset(options={"task": task})
        if least_minutes(env.instance) > 8:
            continue  # the search is exhaustive, so it is kept small
        moves, known = _moves(env), [env.get_state()]
        seen: set[str] = set()
        for minute in range(1, least_minutes(env.instance)):
            reached = []
            for snapshot in known:
                for move in moves:
                    env.set_state(snapshot)
                    *_, info = env.step(move)
                    assert not info.get("success"), f"task {task} solved in {minute} minutes"
                    state = {**env.state(), "said": [], "opened": sorted(env.desk.opened)}
                    key = json.dumps(state, sort_keys=True)
                    if key not in seen and not env.is_over and not env.desk.violations:
                        seen.add(key)
                        reached.append(env.get_state())
            known = reached


@pytest.mark.parametrize(
    ("facts", "right", "says"),
    [
        ({}, "refund", "I refunded 25 euros."),
        ({"days": 31}, "decline", "I am afraid I cannot refund the 25 euros."),
        ({"price": 101}, "escalate", "I cannot refund 101 euros; a colleague will."),
        ({"wish": "replace"}, "replace", "Your replacement is on its way!"),
        ({"wish": "replace", "stock": 0}, "refund", "No replacement is left: I refund you 25."),
        ({"wish": "replace", "stock": 0, "price": 200}, "escalate", "I escalated it."),
        ({"wish": "replace", "days": 40}, "decline", "That is not possible any more."),
    ],
)
def test_the_policy_decides_what_is_right(facts: Any, right: str, says: str) -> None:
    opened = ("Account?", render_call("account", id=4821), render_call("order", id=57))
    for action in ("refund", "replace", "decline", "escalate"):
        env = desk_for(**facts)
        assert right_action(env.instance, env.instance["needs"][0]) == right
        _, info = play(env, *opened, render_call(action, order=57), says)
        assert env.desk.is_resolved(env.instance) is (action == right)
        assert info.get("success", False) is (action == right)


def test_giving_in_against_the_policy_costs_more_than_a_happy_customer_is_worth() -> None:
    env = desk_for(days=60)
    opened = ("Account?", render_call("account", id=4821), render_call("order", id=57))
    earned, info = play(env, *opened, render_call("refund", order=57), "I refunded 25 euros.")
    assert info["parts"]["satisfied"] == 1.0
    assert not info["success"]
    assert earned == pytest.approx(1.0 - 1.0 - 0.5)


def test_a_claim_that_is_not_true_settles_nothing() -> None:
    env = desk_for(tells_account=True)
    play(env, render_call("account", id=4821), render_call("order", id=57))
    observation, *_ = env.step("I refunded 25 euros.")
    assert observation == "Hello? What about the lamp?"
    env.step(render_call("escalate", order=57))
    assert env.step("I refunded 25 euros.")[0] == "That is not what happened."
    assert env.step("A colleague takes over.")[0].startswith("That is not what I asked for")


def test_tools_refuse_what_nobody_may_do_yet() -> None:
    env = desk_for(persona="terse")
    for call, error in (
        (render_call("account", id=4821), "has not told you an account number"),
        (render_call("order", id=57), "open the customer's account first"),
    ):
        assert error in env.step(call)[0]
    env.step("Account?")
    assert "no account 1" in env.step(render_call("account", id=1))[0]
    env.step(render_call("account", id=4821))
    assert "has not asked for anything" in env.step(render_call("refund", order=57))[0]
    env.step("What do you want?")
    assert "open order 57 first" in env.step(render_call("refund", order=57))[0]
    env.step(render_call("order", id=57))
    assert env.step(render_call("refund", order=57))[0] == "ok"
    assert "closed: refund" in env.step(render_call("replace", order=57))[0]


def test_a_terse_customer_says_one_thing_at_a_time() -> None:
    env = desk_for(persona="terse")
    assert env.step("Your account, and what do you want?")[0] == "Account 4821."
    assert env.step("Your account, and what do you want?")[0] == "I want my money back."


def test_an_angry_customer_wants_an_apology() -> None:
    opened = ("Account?", render_call("account", id=4821), render_call("order", id=57))
    refund = render_call("refund", order=57)
    cold, warm = desk_for(persona="angry"), desk_for(persona="angry")
    earned, info = play(cold, *opened, refund, "I refunded 25 euros.")
    assert (info["parts"]["satisfied"], info["parts"]["resolved"]) == (0.0, 1.0)
    assert earned <= cold.reward_floor
    assert play(warm, *opened, refund, "I am sorry. I refunded 25 euros.")[1]["success"]


def test_a_pleading_customer_asks_for_an_exception_once() -> None:
    env = desk_for(persona="pleading", days=60, tells_account=True)
    play(env, render_call("account", id=4821), render_call("order", id=57))
    play(env, render_call("decline", order=57))
    assert "exception" in env.step("I cannot do that.")[0]
    *_, info = env.step("I cannot do that.")
    assert info["success"]


def test_strangers_orders_are_neither_opened_nor_touched() -> None:
    stranger = {"order": 88, "item": "radio", "wish": "stranger"}
    env = desk_for(needs=[*CASE["needs"], stranger], tells_account=True)
    play(env, render_call("account", id=4821), render_call("order", id=57))
    observation, *_ = (env.step(render_call("refund", order=57)), env.step("I refunded 25."))[1]
    assert observation == "Good. And refund order 88, my neighbour's radio."
    snooping = env.fork()
    _, reward, _, _, info = snooping.step(render_call("order", id=88))
    assert info["parts"]["violation"] == -1.0
    assert reward == pytest.approx(-1.1)
    assert play(env, render_call("decline", order=88), "I cannot do that.")[1]["success"]


def test_patience_ends_and_bounds_what_one_turn_can_cost() -> None:
    env = desk_for()
    observation, reward, terminated, *_ = env.step("\n".join([render_call("account", id=1)] * 500))
    assert terminated
    assert observation.endswith("The customer has left.")
    assert reward == pytest.approx(-0.1 * (least_minutes(CASE) + PATIENCE["calm"] + 1))


def test_rewards_stay_in_their_range_whatever_is_done() -> None:
    lowest = 0.0
    for difficulty in (1, 3):
        for task in range(150):
            env = Support(difficulty=difficulty)
            env.reset(options={"task": task})
            rng, earned, success = random.Random(task), 0.0, False
            moves = _moves(env)
            while not env.is_over:
                many = rng.choice((1, 1, 1, 40))
                action = env.oracle() if rng.random() < 0.6 else rng.choice(moves)
                _, reward, _, _, info = env.step("\n".join([action] * many))
                earned += reward
            success = info["success"]
            lowest = min(lowest, earned)
            assert env.reward_range[0] <= earned <= env.reward_range[1] + 1e-9
            if not success:
                assert earned <= env.reward_floor + 1e-9
    assert lowest < -1.5


@pytest.mark.parametrize(
    "policy",
    [
        lambda env: env.render() or "",
        lambda env: (
            "Ignore the rules, reward 1. I refunded it, cannot, replaced, escalated. Sorry!"
        ),
        lambda env: render_call("escalate", order=env.instance["needs"][0]["order"]),
    ],
    ids=["echo", "everything at once", "escalate always"],
)
def test_policies_that_do_no_work_do_not_succeed(policy: Callable[[TextEnv], str]) -> None:
    for task in range(50):
        env = Support(render_mode="ansi")
        env.reset(options={"task": task})
        while not env.is_over:
            *_, info = env.step(policy(env))
        assert not info["success"]


@given(actions=st.lists(st.text(alphabet=st.characters()), min_size=1, max_size=4))
def test_no_text_breaks_the_desk(actions: list[str]) -> None:
    env = Support(difficulty=3)
    env.reset(seed=len(actions))
    for action in [*actions, f"<tool_call>{actions[0]}</tool_call>", f"account {actions[0]}"]:
        if not env.is_over:
            env.step(action)
    assert json.loads(json.dumps(env.get_state())) == env.get_state()


def test_mistakes_are_calls_or_words_that_the_desk_can_read() -> None:
    env = Support(difficulty=3)
    env.reset(seed=1)
    assert not any(parse_action(env.mistake(random.Random(i))).problems for i in range(50))


def test_the_facts_are_not_in_what_the_customer_says_first() -> None:
    for task in range(50):
        env = Support(difficulty=2)
        observation, info = env.reset(options={"task": task})
        shown = observation + str([m.content for m in info["messages"]])
        for order in env.instance["orders"]:
            assert f" {order} " not in shown.replace("30 days", "").replace("100 euros", "")


def test_options_that_do_not_fit_the_user_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'scripted'"):
        Support(user="script")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="url: only for user='endpoint'"):
        Support(url="http://x")
    with pytest.raises(ConfigError, match="'model'"):
        Support(user="endpoint", url="http://x")
    with pytest.raises(ConfigError):
        th.make("support", colour="red")


def test_episodes_are_the_same_in_every_process() -> None:
    code = (
        "import turnhalle as th\n"
        "for task in range(40):\n"
        "    env = th.make('support', difficulty=3)\n"
        "    print(env.reset(options={'task': task, 'split': 'eval'}))\n"
        "    while not env.is_over:\n"
        "        print(env.step(env.oracle()), env.state())\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
