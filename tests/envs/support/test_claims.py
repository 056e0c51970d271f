"""What a customer takes for the outcome: one claim and one number, and never two at once."""

from __future__ import annotations

import re
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.support.cases import right_action
from turnhalle.envs.support.env import Support
from turnhalle.envs.tools.formats import render_call

ALL_NUMBERS = " ".join(map(str, range(2, 301)))


def acted_desk(action: str, **facts: Any) -> Support:
    """A desk of one need on which `action` was done; all that is left is to say so."""
    wish = "status" if action == "tell" else facts.pop("wish", "refund")
    order = {"item": "lamp", "price": 25, "days": 12, "stock": 1}
    if action == "tell":
        order = {"item": "lamp", "price": 25, "arrives": 9}
    case = {
        "name": "Ada",
        "account": 4821,
        "persona": "calm",
        "tells_account": True,
        "needs": [{"order": 57, "item": "lamp", "wish": wish}],
        "orders": {"57": order | facts},
    }
    env = Support()
    env.begin(th.Task(env.id, "train", 0, 1, case))
    env.step(render_call("account", id=4821))
    env.step(render_call("order", id=57))
    if action != "tell":
        env.step(render_call(action, order=57))
    return env


OUTCOMES: dict[str, dict[str, Any]] = {
    "tell": {},
    "refund": {},
    "replace": {"wish": "replace"},
    "decline": {"days": 60},
    "escalate": {"price": 150},
}


def settles(text: str) -> set[str]:
    """The outcomes that a text settles, each where it is the right and true one."""
    settled = set()
    for action, facts in OUTCOMES.items():
        env = acted_desk(action, **facts)
        assert right_action(env.instance, env.instance["needs"][0]) == action
        *_, info = env.step(text)
        settled |= {action} if info.get("success") else set()
    return settled


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("I refunded 25 euros.", "refund"),
        ("I have refunded you 25.00 euros, 25 in all.", "refund"),
        ("I cannot replace it, but I refunded 25 euros.", "refund"),
        ("The lamp is out of stock for a replacement; refunded: 25 euros", "refund"),
        ("It comes in 9 days.", "tell"),
        ("9", "tell"),
        ("Your replacement is on its way, instead of a refund.", "replace"),
        ("A replacement is on its way instead of a refund", "replace"),
        ("There is no stock left and I refunded 25 euros instead of a replacement.", "refund"),
        ("I cannot refund or replace it.", "decline"),
        ("I can\u2019t refund it.", "decline"),
        ("I'm afraid I can't refund the 25 euros after 60 days.", "decline"),
        ("Your refund was declined.", "decline"),
        ("I escalated your refund of 150 euros to a colleague.", "escalate"),
        ("I am unable to refund 150 euros. A colleague will decide.", "escalate"),
    ],
)
def test_plain_words_are_understood(text: str, outcome: str) -> None:
    assert settles(text) == {outcome}


@pytest.mark.parametrize(
    "text",
    [
        ALL_NUMBERS,
        f"Sorry. {ALL_NUMBERS} refund",
        "I refunded 25 or 26 euros.",
        "I refunded 25 euros, or 9.",
        "I refunded -25 euros.",
        "I refunded 125 euros.",
        "I refunded 25.5 euros.",
        "I refunded 9 euros.",
        "I refunded \u0662\u0665 euros and 25 euros.",
        "It comes in 8 or 9 days.",
        "It comes in 90 days.",
        "I refunded 25 euros. I cannot do that.",
        "I cannot do that. A colleague takes over.",
        "I refunded 25 euros. A replacement is on its way.",
        "I refunded 25 euros. A colleague takes over.",
        "I refunded 25 euros. It comes in 9 days.",
        "I refunded it, cannot, replaced, escalated. Sorry!",
    ],
)
def test_several_numbers_or_outcomes_at_once_settle_nothing(text: str) -> None:
    assert settles(text) == set()


@pytest.mark.parametrize("glue", [" ", ", ", ". "])
def test_no_pile_of_claims_settles_two_outcomes(glue: str) -> None:
    claims = ["I refunded 25 euros", "I cannot do that", "replacement", "a colleague", "9 days"]
    for size in (2, 3, 4, 5):
        for start in range(len(claims)):
            pile = [claims[(start + i) % len(claims)] for i in range(size)]
            assert len(settles(glue.join(pile))) <= 1, pile


def test_the_customer_says_what_it_did_not_follow() -> None:
    assert acted_desk("refund").step("I refunded 25 or 26 euros.")[0].startswith("I do not follow")
    assert acted_desk("refund").step("I refunded 26 euros.")[0] == "That is not what happened."
    assert acted_desk("tell").step("In 8 days.")[0] == "That is not what happened."


def test_enumerating_all_numbers_serves_nobody() -> None:
    for difficulty in (1, 2, 3):
        for task in range(60):
            env = Support(difficulty=difficulty)
            env.reset(options={"task": task})
            while not env.is_over:
                action = env.oracle()
                if re.search(r"\d", action) and "<tool_call>" not in action:
                    action = f"Sorry. {ALL_NUMBERS} refund"
                *_, info = env.step(action)
            wanted = {right_action(env.instance, need) for need in env.instance["needs"]}
            assert info["success"] is not bool(wanted & {"refund", "tell"})


@pytest.mark.parametrize("action", list(OUTCOMES))
def test_the_audit_is_given_wrong_numbers_two_numbers_and_two_outcomes(action: str) -> None:
    env = acted_desk(action, **OUTCOMES[action])
    answer = env.oracle()
    wrong = env.near_misses(answer)
    assert answer not in wrong
    numbers = [re.findall(r"\d+", text) for text in wrong]
    assert any("replacement" in text or "refunded" in text for text in wrong)
    if action in ("refund", "tell"):
        (right,) = re.findall(r"\d+", answer)
        assert any(len(n) == 1 and n != [right] for n in numbers)
        assert any(len(set(n)) == 2 and right in n for n in numbers)
        assert any(len(set(n)) > 100 for n in numbers)
    for text in wrong:
        *_, info = env.fork().step(text)
        assert not info.get("success"), text


def test_a_refused_call_is_a_fault_of_the_kind_refused_in_plain_words() -> None:
    env = Support()
    env.reset(options={"task": 0})
    for call, error in (
        (render_call("order", id=1), "error: open the customer's account first"),
        (render_call("refund", order=1), "error: open the customer's account first"),
    ):
        observation, *_, info = env.step(call)
        assert observation == error
        assert info["faults"] == {"refused": 1}


def test_a_refund_of_a_strangers_order_has_no_number_that_would_settle_it() -> None:
    env = acted_desk("refund")
    env.instance["needs"].append({"order": 88, "item": "radio", "wish": "stranger"})
    env.step("I refunded 25 euros.")
    env.step(render_call("refund", order=88))
    observation, *_, info = env.step("I refunded 30 euros.")
    assert observation == "That is not what happened."
    assert not info["parts"].get("satisfied")
