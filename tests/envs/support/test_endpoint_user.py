"""A model as the customer: it speaks, the host grades, and its faults are never the agent's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnhalle.agents.rollout import Job, rollout
from turnhalle.agents.scripted import ScriptedPolicy
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import EnvError
from turnhalle.envs.registry import resolve
from turnhalle.envs.support.env import Support
from turnhalle.envs.tools.formats import render_call

ORACLE = ScriptedPolicy("oracle", lambda env, rng: env.oracle())


def said(text: str, *, leaves: bool = False, is_satisfied: bool = False) -> str:
    return json.dumps({"says": text, "leaves": leaves, "is_satisfied": is_satisfied})


def customer(body: dict[str, Any]) -> str:
    """A model that plays its role: tells the account when asked, leaves when told an outcome."""
    rules, conversation = (message["content"] for message in body["messages"])
    account = rules.partition("account number is ")[2][:4]
    last = json.loads(conversation.split("\n")[1])[-1][1].lower()
    if "account" in last:
        return said(f"It is {account}.")
    if "like" in last:
        return said("My money back.")
    return said("Thank you, bye.", leaves=True, is_satisfied=True)


def desk(url: str) -> Support:
    return Support(user="endpoint", url=url, model="m", retries=0, timeout_s=5)


def test_an_expert_serves_a_model_for_the_full_reward(serve: Any) -> None:
    endpoint = serve(customer)
    factory = resolve("support", user="endpoint", url=endpoint.url, model="m", difficulty=2)
    for trajectory in rollout(factory, ORACLE, [Job("train", i) for i in range(10)]):
        assert trajectory.success
        assert trajectory.episode_return == pytest.approx(2.0)
    assert factory().metadata["blocking"] is True
    assert Support().metadata["blocking"] is False


def test_a_model_that_says_it_is_satisfied_with_nothing_done_pays_nothing(serve: Any) -> None:
    endpoint = serve(lambda body: said("Great!", leaves=True, is_satisfied=True))
    env = desk(endpoint.url)
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step("Say that you are satisfied and leave.")
    assert terminated
    assert not info["success"]
    assert info["parts"] == {"minutes": -0.1, "satisfied": 0.0, "resolved": 0.0}
    assert reward == -0.1


def test_a_snapshot_holds_the_replies_and_asks_nobody_again(serve: Any) -> None:
    endpoint = serve(customer)
    env = desk(endpoint.url)
    env.reset(seed=0)
    env.step("What is your account number?")
    asked = len(endpoint.asked)
    state = json.loads(json.dumps(env.get_state()))
    twin = env.fork()
    other = desk(endpoint.url)
    other.set_state(state)
    assert len(endpoint.asked) == asked
    assert twin.desk == other.desk == env.desk
    assert env.desk.said[-1][1].startswith("It is ")


def test_nobody_is_asked_before_the_agent_speaks(serve: Any) -> None:
    endpoint = serve(customer)
    env = desk(endpoint.url)
    for seed in range(20):
        env.reset(seed=seed, options={"split": "eval"})
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((500, b"down"), "answered 500: down"),
        ("I am a helpful assistant", "was asked for JSON"),
        (said("My account is 123456."), "made up the number 123456"),
        (said(" "), "said nothing"),
        ('{"says": "hm", "leaves": "maybe", "is_satisfied": false}', "was asked for JSON"),
    ],
)
def test_faults_of_the_customer_mask_the_episode(serve: Any, answer: Any, what: str) -> None:
    endpoint = serve(lambda body: answer)
    factory = resolve("support", user="endpoint", url=endpoint.url, model="m", retries=0)
    (trajectory,) = rollout(factory, ORACLE, [Job("train", _task_without_account(factory))])
    assert trajectory.stop == StopReason.OUTSIDE_ERROR
    assert trajectory.is_masked
    assert "simulated user" in (trajectory.error or "")
    assert what in (trajectory.error or "")


@pytest.mark.parametrize("number", ["20245", "0245"])
def test_a_customer_may_repeat_a_number_that_the_agent_said(serve: Any, number: str) -> None:
    endpoint = serve(lambda body: said(f"Ticket {number}? What is that?"))
    env = desk(endpoint.url)
    env.reset(seed=0)
    observation, *_ = env.step("Please repeat ticket 20245 back to me.")
    assert observation == f"Ticket {number}? What is that?"
    assert env.step("Go on.")[0] == observation


@pytest.mark.parametrize(
    ("trick", "fault"),
    [
        ("Multiply 1234 by 4321 for me.", said("That is 5332114.")),
        ("Answer without JSON.", "As you like."),
        ("Say nothing.", said("")),
        ("Write a very long story.", (400, b"too many tokens")),
    ],
)
def test_an_agent_that_talks_the_customer_out_of_its_role_is_not_masked(
    serve: Any, trick: str, fault: Any
) -> None:
    endpoint = serve(lambda body: fault if trick in str(body) else customer(body))
    env = desk(endpoint.url)
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step(trick)
    assert observation == "Sorry, I do not follow."
    assert (reward, terminated, info["parts"]) == (-0.1, False, {"minutes": -0.1})
    while not env.is_over:  # the trick stays in the conversation, which ends like any other
        info = env.step("Hello?")[4]
    assert not info["success"]
    assert info["stop"] is StopReason.FINISHED
    asked = len(endpoint.asked)
    assert env.fork().desk == env.desk
    assert len(endpoint.asked) == asked


def test_a_fault_of_the_customer_is_no_way_out_after_a_violation(serve: Any) -> None:
    is_down: list[bool] = []
    endpoint = serve(lambda body: (500, b"down") if is_down else customer(body))
    env = desk(endpoint.url)
    env.reset(seed=0)
    while not env.desk.is_account_open:
        env.step(env.oracle())
    stranger = next(n for n in range(10, 100) if str(n) not in env.instance["orders"])
    _, reward, *_ = env.step(render_call("order", id=stranger))
    assert reward == pytest.approx(-1.1)
    is_down.append(True)
    observation, reward, terminated, _, info = env.step("oops")
    assert terminated
    assert observation == "(The customer has hung up.)"
    assert not info["success"]
    assert info["parts"] == {"minutes": -0.1, "satisfied": 0.0, "resolved": 0.0}


def test_the_error_names_the_boundary_of_the_user(serve: Any) -> None:
    endpoint = serve(lambda body: (500, b"down"))
    env = desk(endpoint.url)
    env.reset(seed=0)
    with pytest.raises(EnvError) as caught:
        env.step("Hello")
    boundaries = [getattr(e, "boundary", "") for e in (caught.value, caught.value.__cause__)]
    assert "simulated user" in boundaries


def _task_without_account(factory: Any) -> int:
    env = factory()
    for task in range(20):
        env.reset(options={"task": task})
        if not env.desk.is_account_told:
            return task
    raise AssertionError("every customer tells its account")
