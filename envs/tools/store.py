"""`Store-v0`: a web shop with a written policy: returns, cancellations, purchases."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from pydantic import Field

from ..tasks import Instance
from .books import Books, Outcome, Rows
from .domain import Call, Domain, Goal
from .store_tasks import draw_store, opened, reply_to
from .tool import ToolError, tool

OrderId = Annotated[int, Field(ge=1, le=999_999)]
Euros = Annotated[int, Field(ge=1, le=1_000_000)]
Quantity = Annotated[int, Field(ge=1, le=99)]
Reason = Literal["not-theirs", "not-delivered", "too-late", "final-sale", "not-processing"]
Category = Literal["garden", "kitchen", "office", "sport"]
_WORDS = {
    "return": "I return the {product} of order {id}.",
    "cancel": "Please cancel order {id}.",
    "buy": "Send me {quantity} of the cheapest {category} product that you have {quantity} of.",
}


class Store(Domain):
    """The desk of a web shop: returns, cancellations and purchases under a written policy."""

    system_prompt = (
        "You are the desk of a web shop and act through its tools. Policy: (1) Serve customers "
        "only for orders of their own, else refuse as not-theirs. (2) Goods come back only once "
        "delivered (not-delivered) and at most 30 days after that (too-late), final-sale products "
        "never (final-sale). All pieces of a product in an order are refunded together: at their "
        "price, or at 80 % of it if opened. (3) An order is cancelled only while it is processing "
        "(not-processing). (4) Refuse with the first reason that holds. (5) Refunds and refusals "
        "cannot be taken back, and nothing is done that was not asked for. Serve the requests in "
        "order; in the end call done with the balance in euros: what the customer gets back for "
        "all of them, minus what the customer pays."
    )

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A shop, and a customer with one to three requests."""
        return draw_store(rng, difficulty)

    def question(self) -> str:
        """What the customer writes."""
        requests = self.instance["requests"]
        lines = [_WORDS[request["kind"]].format(**request) for request in requests]
        return f"{self.instance['customer']} writes: {' '.join(lines)}"

    def opening(self) -> Rows:
        """The rows of the instance; nothing is refunded or refused yet."""
        return {**self.instance["rows"], "refunds": [], "refusals": []}

    def load(self, world: Rows) -> None:
        """Fill the books; they are opened once."""
        if not hasattr(self, "books"):
            self.books = Books()
        self.books.fill(world)

    def dump(self) -> Rows:
        """All rows."""
        return self.books.rows()

    def outcome(self) -> Outcome:
        """What is judged; a purchase that was cancelled again leaves no trace."""
        return self.books.outcome(self._last_order())

    def find_goal(self) -> Goal:
        """Where serving the requests by the policy leads; the drawing found out."""
        goal = self.instance["goal"]
        return Goal((goal["texts"], [tuple(line) for line in goal["bought"]]), goal["balance"])

    def find_plan(self) -> list[Call]:
        """Look before each deed."""
        rows, customer = opened(self.instance["rows"]), self.instance["customer"]
        requests = self.instance["requests"]
        return [call for r in requests for call in reply_to(rows, customer, r)[0]]

    def repair(self, goal: Goal) -> Call | None:
        """Take wrong purchases back, then do what is missing; refunds stay as they are."""
        rows, last_order = self.books.rows(), self._last_order()
        wanted = list(goal.outcome[1])
        bought = {line[0]: line[1:3] for line in rows["lines"] if line[0] > last_order}
        for id, customer, status, _ in rows["orders"]:
            if id in bought and status == "processing":
                if (customer, *bought[id]) not in wanted:
                    return "cancel_order", {"order": id}
                wanted.remove((customer, *bought[id]))
        for customer, product, quantity in wanted:
            arguments = {"customer": customer, "product": product, "quantity": quantity}
            return "place_order", arguments
        done = {(id, product) for id, product, _ in rows["refunds"]}
        done |= {(id, reason) for id, reason in rows["refusals"]}
        open_orders = {row[0] for row in rows["orders"] if row[2] == "processing"}
        for name, arguments in self.plan:
            what = arguments.get("product", arguments.get("reason"))
            if name in ("refund", "refuse") and (arguments["order"], what) not in done:
                return name, arguments
            if name == "cancel_order" and arguments["order"] in open_orders:
                return name, arguments
        return None

    def blunders(self, rng: random.Random) -> list[Call]:
        """Do as told without looking."""
        request = rng.choice(self.instance["requests"])
        wrong: list[Call] = [("get_order", {"order": rng.choice(self._orders())})]
        if request["kind"] == "return":
            amount = 5 * rng.randint(1, 20)
            arguments = {"order": request["id"], "product": request["product"], "amount": amount}
            return [*wrong, ("refund", arguments)]
        if request["kind"] == "cancel":
            return [*wrong, ("cancel_order", {"order": rng.choice(self._orders())})]
        product = rng.choice([row[0] for row in self.instance["rows"]["products"]])
        arguments = {"customer": self.instance["customer"], "product": product}
        return [*wrong, ("place_order", {**arguments, "quantity": request["quantity"]})]

    @tool
    def find_orders(self, customer: str) -> str:
        """The orders of a customer."""
        found = self.books.orders_of(customer)
        return ", ".join([f"{id} {status}" for id, status in found]) or "no orders"

    @tool
    def get_order(self, order: OrderId) -> str:
        """Whose an order is, how far it is, and what is in it."""
        rows = self.books.order(order)
        customer, status, days = rows[0][:3]
        when = f" {days} days ago" if status == "delivered" else ""
        goods = [f"{row[4]} {row[3]}{' (opened)' if row[5] else ''}" for row in rows]
        return f"order {order} of {customer}, {status}{when}: {', '.join(goods)}"

    @tool
    def get_product(self, product: str) -> str:
        """Category, price and stock of a product."""
        category, price, stock, is_final_sale = self.books.product(product)
        final = ", final sale" if is_final_sale else ""
        return f"{product}: {category}, {price} euros, {stock} in stock{final}"

    @tool
    def search_products(self, category: Category) -> str:
        """The products of a category, with price and stock."""
        found = self.books.search(category)
        return "; ".join(
            [f"{name}: {price} euros, {stock} in stock" for name, price, stock in found]
        )

    @tool
    def refund(self, order: OrderId, product: str, amount: Euros) -> str:
        """Pay for all pieces of a product in an order. Cannot be taken back."""
        self.books.refund(order, product, amount)
        return f"{amount} euros go back"

    @tool
    def refuse(self, order: OrderId, reason: Reason) -> str:
        """Refuse what was asked of an order, and say why. Cannot be taken back."""
        self.books.refuse(order, reason)
        return "refused"

    @tool
    def cancel_order(self, order: OrderId) -> str:
        """Cancel a whole order that is processing; what was paid goes back."""
        return f"cancelled; {self.books.cancel(order)} euros go back"

    @tool
    def place_order(self, customer: str, product: str, quantity: Quantity) -> str:
        """Order a product for a customer, who pays at once."""
        if customer not in {row[1] for row in self.instance["rows"]["orders"]}:
            raise ToolError(f"no customer {customer[:40]!r}")
        return f"order {self.books.place(customer, product, quantity)} is placed"

    def _orders(self) -> list[int]:
        return [row[0] for row in self.instance["rows"]["orders"]]

    def _last_order(self) -> int:
        last: int = self.instance["rows"]["orders"][-1][0]
        return last
