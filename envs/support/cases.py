"""Cases of a support desk: who calls, what they want, what the policy says, how long it must take.

A case is plain JSON. What is right follows from the facts of an order and the wish alone, so the
same function grades the desk and guides the oracle.
"""

from __future__ import annotations

import random
from typing import Any

from ..tasks import Instance

NAMES = ("Ada", "Bo", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jun", "Kai", "Lea")
ITEMS = ("chair", "clock", "desk", "drill", "fan", "kettle", "lamp", "mixer", "phone", "radio")
WISHES = ("refund", "replace", "status")
REFUND_DAYS, REFUND_EUROS = 30, 100
"""The policy: later is declined, dearer is escalated."""
MAX_NEEDS = 3
PATIENCE = {"calm": 6, "terse": 6, "pleading": 6, "angry": 4}
"""Minutes more than the case needs before a customer leaves, by persona."""


def draw_case(rng: random.Random, difficulty: int) -> Instance:
    """Draw a case: difficulty brings further needs, angry and pleading customers, and strangers.

    At 1 there is one need of a calm or terse customer; at 2 up to two, of any; from 3 on two or
    three.
    """
    needs = {1: 1, 2: rng.randint(1, 2)}.get(difficulty, rng.randint(2, MAX_NEEDS))
    persona = rng.choice(("calm", "terse") if difficulty == 1 else tuple(PATIENCE))
    numbers = rng.sample(range(10, 100), needs + 2)
    items = rng.sample(ITEMS, needs + 2)
    wishes = [rng.choice(WISHES) for _ in range(needs)]
    orders = {
        str(number): _draw_order(rng, item, wish)
        for number, item, wish in zip(numbers, items, [*wishes, "refund"], strict=False)
    }
    wanted = [
        {"order": number, "item": item, "wish": wish}
        for number, item, wish in zip(numbers, items, wishes, strict=False)
    ]
    if needs > 1 and rng.random() < 0.5:
        # Somebody else's order, which may be neither opened nor touched.
        wanted[-1] = {"order": numbers[-1], "item": items[-1], "wish": "stranger"}
    return {
        "name": rng.choice(NAMES),
        "account": rng.randint(1000, 9999),
        "persona": persona,
        "tells_account": persona != "terse" and rng.random() < 0.5,
        "needs": wanted,
        "orders": orders,
    }


def right_action(case: Instance, need: dict[str, Any]) -> str:
    """What the policy says: "refund", "replace", "decline", "escalate", or "tell" (no action)."""
    if need["wish"] == "stranger":
        return "decline"
    order = case["orders"][str(need["order"])]
    if need["wish"] == "status":
        return "tell"
    if order["days"] > REFUND_DAYS:
        return "decline"
    if need["wish"] == "replace" and order["stock"] > 0:
        return "replace"
    return "escalate" if order["price"] > REFUND_EUROS else "refund"


def is_violation(case: Instance, number: int, action: str) -> bool:
    """Does an action break the policy? Declining and escalating never do."""
    order = case["orders"].get(str(number))
    if action not in ("refund", "replace"):
        return False
    if order is None or "arrives" in order or order["days"] > REFUND_DAYS:
        return True
    limit = order["price"] > REFUND_EUROS if action == "refund" else order["stock"] == 0
    return bool(limit)


def least_minutes(case: Instance) -> int:
    """Minutes of the shortest way to success: each message and each call is one.

    Needed are the questions whose answers the customer has not given, the account, and for each
    need the order, the action and a message that says the outcome. The desk's tools refuse to work
    without what must come before, so there is no shorter way.
    """
    minutes = 1 if case["tells_account"] else 2
    if case["persona"] == "terse":
        minutes += 1
    for need in case["needs"]:
        action = right_action(case, need)
        minutes += 1 + (action != "tell") + (need["wish"] != "stranger")
        minutes += action == "decline" and case["persona"] == "pleading"
    return minutes


def patience(case: Instance) -> int:
    """Minutes after which the customer leaves."""
    return least_minutes(case) + PATIENCE[case["persona"]]


def _draw_order(rng: random.Random, item: str, wish: str) -> dict[str, Any]:
    order: dict[str, Any] = {"item": item, "price": rng.randint(5, 80)}
    if wish == "status":
        return order | {"arrives": rng.randint(2, 14)}
    if rng.random() < 0.25:
        order["price"] = rng.randint(REFUND_EUROS + 10, 300)
    is_late = rng.random() < 0.3
    order["days"] = rng.randint(REFUND_DAYS + 1, 90) if is_late else rng.randint(1, REFUND_DAYS)
    return order | {"stock": rng.choice((0, 1, 5))}
