"""`Tools-v0`: the counter of a small shop, where every answer has to be looked up.

Three kinds of tasks need two, three and four calls. An episode is judged by the final state of
the shop *and* the answer, not by a list of calls: any way that leads there is right, and a wrong
refund cannot be taken back.
"""

from __future__ import annotations

import random
from typing import Any

from pydantic import ValidationError

from ..core import End, Message, Reply
from ..tasks import Instance
from .canonical import render_call
from .faults import Fault, FaultKind
from .tool import ToolError, tool
from .toolbox import ToolEnv

ITEMS = (
    "apple", "bread", "candle", "drum", "egg", "fig", "glove", "honey",
    "ink", "jam", "kite", "lamp", "mango", "nut", "olive", "pear",
)  # fmt: skip
KINDS = ("cost", "refund", "return")
_QUESTIONS = {
    "cost": "What did order {order} cost?",
    "refund": "Refund order {order}.",
    "return": "Refund order {order} and restock it. How many now?",
}


class Shop(ToolEnv):
    """The counter of a small shop: questions about orders, refunds, returns."""

    system_prompt = (
        "You are the clerk of a small shop. Look things up with the tools; never guess. An order "
        "is refunded at the price of its item, and a refund cannot be taken back. In the end "
        "answer with a number alone where one was asked for, else with the word done. You have 6 "
        "turns."
    )

    max_turns = 6

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A shop of 4 items a difficulty and as many orders, and one thing to do."""
        size = min(4 * difficulty, len(ITEMS))
        items = rng.sample(ITEMS, size)
        orders = {str(rng.randint(10, 99)): rng.choice(items) for _ in range(size)}
        return {
            "kind": rng.choice(KINDS),
            "order": rng.choice(list(orders)),
            "orders": orders,
            "prices": {item: rng.randint(2, 99) for item in items},
            "stock": {item: rng.randint(2, 98) for item in items},
        }

    def start(self) -> str:
        """Open the shop."""
        self.refunds: dict[str, int] = {}
        self.stock: dict[str, int] = dict(self.instance["stock"])
        self.known: set[str] = set()
        return _QUESTIONS[self.instance["kind"]].format(**self.instance)

    @tool
    def order(self, id: int) -> str:
        """Which item an order was for."""
        self.known.add(f"order {id}")
        return str(self._look_up("orders", str(id), "order"))

    @tool
    def price(self, item: str) -> str:
        """What an item costs."""
        self.known.add(f"price {item}")
        return str(self._look_up("prices", item, "item"))

    @tool
    def refund(self, id: int, amount: int) -> str:
        """Pay the amount of an order back. Cannot be taken back."""
        self._look_up("orders", str(id), "order")
        if str(id) in self.refunds:
            raise ToolError("refunded already")
        self.refunds[str(id)] = amount
        return "ok"

    @tool
    def restock(self, item: str) -> str:
        """Put one item back on the shelf; says how many there are now."""
        self._look_up("prices", item, "item")
        self.stock[item] += 1
        return str(self.stock[item])

    def answer(self, text: str) -> Reply:
        """The end: the shop must be as it should be, and the answer right."""
        is_right = text.strip().rstrip(".").lower() == self._right_answer()
        success = is_right and (self.refunds, self.stock) == self._right_state()
        return End(
            "Thank you." if success else "That is wrong.", success=success, reward=float(success)
        )

    def explain(self, fault: Fault) -> str:
        """The words of version 0, which the built-in policy learned from."""
        cause = fault.cause
        if isinstance(cause, ValidationError):
            first = cause.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return f"error: {fault.tool}: {where}: {first['msg'].lower()}"
        if cause is not None:
            return f"error: {cause}"
        if fault.kind is FaultKind.UNKNOWN_TOOL:
            return f"error: no tool {fault.tool!r}; tools: {', '.join(self.toolbox())}"
        is_json = fault.kind is FaultKind.BAD_SHAPE
        return f"error: {fault.text if is_json else 'the tool call is no JSON'}"

    def compose(self, results: list[Message]) -> Reply:
        """What could not be read is told last, as version 0 has it."""
        return super().compose(sorted(results, key=lambda message: message.name is None))

    def oracle(self) -> str:
        """The next call of a clerk who looks things up first."""
        kind, order = self.instance["kind"], self.instance["order"]
        item, price = self._item(), self.instance["prices"][self._item()]
        if f"order {order}" not in self.known:
            return render_call("order", id=int(order))
        if f"price {item}" not in self.known:
            return render_call("price", item=item)
        if kind != "cost" and order not in self.refunds:
            return render_call("refund", id=int(order), amount=price)
        if kind == "return" and self.stock == self.instance["stock"]:
            return render_call("restock", item=item)
        return self._right_answer()

    def mistake(self, rng: random.Random) -> str:
        """What a careless clerk does: look up the wrong thing, or make up a number."""
        order, number = int(self.instance["order"]), rng.randint(2, 99)
        item = rng.choice(list(self.instance["prices"]))
        asks_number = self.instance["kind"] != "refund"
        return rng.choice(
            [
                render_call("price", item=item),
                render_call("restock", item=item),
                render_call("refund", id=order, amount=number),
                str(number) if asks_number else "done",
            ]
        )

    def state(self) -> dict[str, Any]:
        """Refunds, stock, and what was looked up."""
        return {
            "refunds": dict(self.refunds),
            "stock": dict(self.stock),
            "known": sorted(self.known),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.refunds, self.stock = dict(state["refunds"]), dict(state["stock"])
        self.known = set(state["known"])

    def _item(self) -> str:
        return str(self.instance["orders"][self.instance["order"]])

    def _right_state(self) -> tuple[dict[str, int], dict[str, int]]:
        order, item, stock = self.instance["order"], self._item(), dict(self.instance["stock"])
        if self.instance["kind"] == "cost":
            return {}, stock
        if self.instance["kind"] == "return":
            stock[item] += 1
        return {order: self.instance["prices"][item]}, stock

    def _right_answer(self) -> str:
        item = self._item()
        return {
            "cost": str(self.instance["prices"][item]),
            "refund": "done",
            "return": str(self.instance["stock"][item] + 1),
        }[self.instance["kind"]]

    def _look_up(self, table: str, key: str, kind: str) -> Any:
        if key not in self.instance[table]:
            raise ToolError(f"no {kind} {key}")
        return self.instance[table][key]
