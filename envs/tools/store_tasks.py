"""Tasks of `Store-v0`: shops are drawn, and requests are served as the policy has it.

The policy is written a second time here, on plain rows: the judge does not trust the tools.
"""

from __future__ import annotations

import random
from typing import Any

from ..tasks import Instance
from .books import Rows
from .domain import MAX_CALLS, Call

GOODS = {
    "garden": ("bench", "hose", "parasol", "rake", "shears", "trellis"),
    "kitchen": ("grinder", "kettle", "ladle", "pan", "sieve", "toaster"),
    "office": ("binder", "chair", "lamp", "printer", "shelf", "stapler"),
    "sport": ("ball", "bat", "dumbbell", "mat", "racket", "skates"),
}
CATEGORIES = tuple(GOODS)
CUSTOMERS = ("Ada", "Bo", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo")
DAYS_TO_RETURN, PERCENT_IF_OPENED = 30, 80
_STATUSES = ("delivered", "delivered", "delivered", "shipped", "processing", "processing")

Request = dict[str, Any]


def draw_store(rng: random.Random, difficulty: int) -> Instance:
    """A shop of 8 products and more, its orders, and one to three requests of a customer."""
    few, most = {1: (2, 4), 2: (5, 6)}.get(difficulty, (7, MAX_CALLS))
    while True:
        rows = _draw_rows(rng, difficulty)
        customer = rng.choice(rows["orders"])[1]
        after, balance = opened(rows), 0
        requests: list[Request] = []
        plan: list[Call] = []
        for _ in range(min(difficulty, 3)):
            requests.append(_draw_request(rng, after, len(rows["orders"]), customer))
            calls, euros = reply_to(after, customer, requests[-1])
            plan, balance = plan + calls, balance + euros
        needed = 1 + len({str(call) for call in plan})
        wants = {(r["kind"], r.get("id"), r.get("product"), r.get("category")) for r in requests}
        if few <= needed <= most and len(wants) == len(requests):
            goal = {**_outcome(after, len(rows["orders"])), "balance": balance}
            return {"rows": rows, "customer": customer, "requests": requests, "goal": goal}


def opened(rows: Rows) -> Rows:
    """A copy of a shop's rows, with nothing refunded or refused yet."""
    copy = {name: [list(row) for row in table] for name, table in rows.items()}
    return {**copy, "refunds": [], "refusals": []}


def _draw_rows(rng: random.Random, difficulty: int) -> Rows:
    per_category = min(1 + difficulty, 6)
    products: list[list[Any]] = []
    for category, names in GOODS.items():
        # No two prices of a category are equal, so that the cheapest is one.
        prices = rng.sample(range(5, 200, 5), per_category)
        for name, price in zip(rng.sample(names, per_category), prices, strict=True):
            products.append([name, category, price, rng.randint(0, 9), int(rng.random() < 0.2)])
    products.sort()
    ids = sorted(rng.sample(range(1000, 10_000), 3 + min(difficulty, 5)))
    customers = rng.sample(CUSTOMERS, 2)
    orders, lines = [], []
    for id in ids:
        status = rng.choice(_STATUSES)
        days = rng.randint(1, 45) if status == "delivered" else 0
        orders.append([id, rng.choice(customers), status, days])
        for name in sorted(rng.sample([product[0] for product in products], rng.randint(1, 2))):
            is_opened = status == "delivered" and rng.random() < 0.4
            lines.append([id, name, rng.randint(1, 3), int(is_opened)])
    return {"products": products, "orders": orders, "lines": lines}


def _draw_request(rng: random.Random, rows: Rows, orders: int, customer: str) -> Request:
    """A thing that a customer may ask of the first so many orders; not all of it is policy."""
    kind = rng.choice(("return", "return", "cancel", "buy"))
    if kind == "buy":
        category, quantity = rng.choice(CATEGORIES), rng.randint(1, 3)
        if any(p[1] == category and p[3] >= quantity for p in rows["products"]):
            return {"kind": kind, "category": category, "quantity": quantity}
        return _draw_request(rng, rows, orders, customer)
    own = [order for order in rows["orders"][:orders] if order[1] == customer]
    fitting = [order for order in own if (order[2] == "delivered") == (kind == "return")]
    # Mostly what makes sense; sometimes a wrong order, which is to be refused.
    pool = fitting if fitting and rng.random() < 0.8 else rows["orders"][:orders]
    id = rng.choice(pool)[0]
    if kind == "cancel":
        return {"kind": kind, "id": id}
    return {"kind": kind, "id": id, "product": rng.choice(_goods(rows, id))[1]}


def _outcome(rows: Rows, orders: int) -> dict[str, Any]:
    """What `Books.outcome` must say in the end; the first so many orders are old ones."""
    old, new = rows["orders"][:orders], {row[0]: row[1] for row in rows["orders"][orders:]}
    return {
        "texts": [
            _text([row[3:4] for row in rows["products"]]),
            _text([row[2:3] for row in old]),
            _text(sorted(rows["refunds"])),
            _text(sorted(rows["refusals"])),
        ],
        "bought": sorted([[new[row[0]], row[1], row[2]] for row in rows["lines"] if row[0] in new]),
    }


def _text(rows: list[list[Any]]) -> str | None:
    return ",".join([" ".join(map(str, row)) for row in rows]) or None


def reply_to(rows: Rows, customer: str, request: Request) -> tuple[list[Call], int]:
    """Serve a request by the policy: change the rows; the calls, and the customer's balance."""
    if request["kind"] == "buy":
        return _sell(rows, customer, request)
    calls: list[Call] = [("get_order", {"order": request["id"]})]
    order = next(row for row in rows["orders"] if row[0] == request["id"])
    if request["kind"] == "cancel":
        reason = "not-theirs" if order[1] != customer else "not-processing"
        if order[1] != customer or order[2] != "processing":
            return [*calls, _refuse(rows, order[0], reason)], 0
        return [*calls, ("cancel_order", {"order": order[0]})], _cancel(rows, order)
    reason = _objection(order, customer)
    if not reason:
        calls.append(("get_product", {"product": request["product"]}))
        reason = "final-sale" if _product(rows, request["product"])[4] else ""
    if reason:
        return [*calls, _refuse(rows, order[0], reason)], 0
    refund, amount = _refund(rows, order[0], request["product"])
    return [*calls, refund], amount


def _objection(order: list[Any], customer: str) -> str:
    """The first reason of the policy not to take goods of this order back, or nothing."""
    _, owner, status, days = order
    if owner != customer:
        return "not-theirs"
    if status != "delivered":
        return "not-delivered"
    return "too-late" if days > DAYS_TO_RETURN else ""


def _refuse(rows: Rows, id: int, reason: str) -> Call:
    if [id, reason] not in rows["refusals"]:
        rows["refusals"].append([id, reason])
    return "refuse", {"order": id, "reason": reason}


def _refund(rows: Rows, id: int, product: str) -> tuple[Call, int]:
    _, _, quantity, is_opened = next(row for row in _goods(rows, id) if row[1] == product)
    percent = PERCENT_IF_OPENED if is_opened else 100
    amount = quantity * _product(rows, product)[2] * percent // 100
    rows["refunds"].append([id, product, amount])
    return ("refund", {"order": id, "product": product, "amount": amount}), amount


def _sell(rows: Rows, customer: str, request: Request) -> tuple[list[Call], int]:
    category, quantity = request["category"], request["quantity"]
    fitting = [p for p in rows["products"] if p[1] == category and p[3] >= quantity]
    product = min(fitting, key=lambda p: p[2])
    product[3] -= quantity
    id = rows["orders"][-1][0] + 1
    rows["orders"].append([id, customer, "processing", 0])
    rows["lines"].append([id, product[0], quantity, 0])
    arguments = {"customer": customer, "product": product[0], "quantity": quantity}
    look: Call = ("search_products", {"category": category})
    return [look, ("place_order", arguments)], -quantity * product[2]


def _cancel(rows: Rows, order: list[Any]) -> int:
    order[2], paid = "cancelled", 0
    for _, name, quantity, _ in _goods(rows, order[0]):
        product = _product(rows, name)
        product[3] += quantity
        paid += quantity * product[2]
    return paid


def _goods(rows: Rows, id: int) -> list[list[Any]]:
    return [line for line in rows["lines"] if line[0] == id]


def _product(rows: Rows, name: str) -> list[Any]:
    found: list[Any] = next(row for row in rows["products"] if row[0] == name)
    return found
