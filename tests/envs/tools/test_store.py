"""The store: a written policy, and books that remember."""

from __future__ import annotations

from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.tools.books import Books
from turnhalle.envs.tools.formats import render_call
from turnhalle.envs.tools.store import Store
from turnhalle.envs.tools.store_tasks import opened, reply_to
from turnhalle.envs.tools.tool import ToolError

ROWS = {
    "products": [
        ["kettle", "kitchen", 40, 5, 0],
        ["ladle", "kitchen", 15, 2, 0],
        ["mat", "sport", 25, 0, 1],
    ],
    "orders": [
        [1001, "Ada", "delivered", 30],
        [1002, "Ada", "delivered", 31],
        [1003, "Ada", "shipped", 0],
        [1004, "Ada", "processing", 0],
        [1005, "Bo", "delivered", 2],
    ],
    "lines": [
        [1001, "kettle", 2, 1],
        [1001, "ladle", 3, 0],
        [1001, "mat", 1, 0],
        [1002, "kettle", 1, 0],
        [1003, "kettle", 1, 0],
        [1004, "kettle", 1, 0],
        [1004, "ladle", 2, 0],
        [1005, "ladle", 1, 0],
    ],
}


def served(**request: Any) -> tuple[str, dict[str, Any], int]:
    """The last call of an expert who serves Ada, and the balance."""
    calls, balance = reply_to(opened(ROWS), "Ada", request)
    return *calls[-1], balance


@pytest.mark.parametrize(
    ("id", "product", "call", "arguments", "balance"),
    [
        (1001, "ladle", "refund", {"order": 1001, "product": "ladle", "amount": 45}, 45),
        (1001, "kettle", "refund", {"order": 1001, "product": "kettle", "amount": 64}, 64),
        (1001, "mat", "refuse", {"order": 1001, "reason": "final-sale"}, 0),
        (1002, "kettle", "refuse", {"order": 1002, "reason": "too-late"}, 0),
        (1003, "kettle", "refuse", {"order": 1003, "reason": "not-delivered"}, 0),
        (1005, "ladle", "refuse", {"order": 1005, "reason": "not-theirs"}, 0),
    ],
)
def test_returns_follow_the_policy(
    id: int, product: str, call: str, arguments: dict[str, Any], balance: int
) -> None:
    assert served(kind="return", id=id, product=product) == (call, arguments, balance)


@pytest.mark.parametrize(
    ("id", "call", "balance"),
    [(1004, "cancel_order", 70), (1003, "refuse", 0), (1005, "refuse", 0)],
)
def test_cancellations_follow_the_policy(id: int, call: str, balance: int) -> None:
    name, arguments, euros = served(kind="cancel", id=id)
    assert (name, arguments["order"], euros) == (call, id, balance)


def test_the_cheapest_is_the_cheapest_of_which_there_are_enough() -> None:
    assert served(kind="buy", category="kitchen", quantity=2)[1]["product"] == "ladle"
    assert served(kind="buy", category="kitchen", quantity=3)[1:] == (
        {"customer": "Ada", "product": "kettle", "quantity": 3},
        -120,
    )


@pytest.fixture
def books() -> Books:
    books = Books()
    books.fill(opened(ROWS))
    return books


def test_the_books_refuse_what_is_impossible(books: Books) -> None:
    for do, said in [
        (lambda: books.order(7), "no order 7"),
        (lambda: books.product("x'; DROP TABLE orders"), "no product"),
        (lambda: books.refund(1001, "rake", 5), "holds no rake"),
        (lambda: books.refund(1001, "ladle", 46), "only 45 euros were paid"),
        (lambda: books.cancel(1003), "is shipped"),
        (lambda: books.cancel(7), "no order 7"),
        (lambda: books.refuse(7, "too-late"), "no order 7"),
        (lambda: books.place("Ada", "rake", 1), "no product 'rake'"),
        (lambda: books.place("Ada", "mat", 1), "only 0 in stock"),
    ]:
        with pytest.raises(ToolError, match=said):
            do()
    assert books.rows() == opened(ROWS)
    books.refund(1001, "ladle", 1)
    with pytest.raises(ToolError, match="refunded already"):
        books.refund(1001, "ladle", 44)


def test_a_refusal_is_noted_once(books: Books) -> None:
    books.refuse(1002, "too-late")
    books.refuse(1002, "too-late")
    assert books.rows()["refusals"] == [[1002, "too-late"]]


def test_a_cancelled_order_goes_back_on_the_shelf(books: Books) -> None:
    assert books.cancel(1004) == 70
    assert (books.product("kettle")[2], books.product("ladle")[2]) == (6, 4)
    with pytest.raises(ToolError, match="is cancelled"):
        books.cancel(1004)


def test_a_purchase_that_was_cancelled_again_leaves_no_trace() -> None:
    env = th.make("store")
    assert isinstance(env, Store)
    env.reset(seed=0)
    before = env.outcome()
    customer = env.instance["customer"]
    product = next(row[0] for row in env.instance["rows"]["products"] if row[3])
    placed, *_ = env.step(
        render_call("place_order", customer=customer, product=product, quantity=1)
    )
    assert env.outcome() != before
    env.step(render_call("cancel_order", order=int(placed.split()[1])))
    assert env.outcome() == before


def test_every_kind_of_request_and_refusal_is_drawn() -> None:
    kinds, reasons = set(), set()
    env = th.make("store", difficulty=3)
    assert isinstance(env, Store)
    for task in range(100):
        env.reset(options={"task": task})
        kinds |= {request["kind"] for request in env.instance["requests"]}
        reasons |= {a["reason"] for name, a in env.plan if name == "refuse"}
    assert kinds == {"return", "cancel", "buy"}
    assert reasons == {"not-theirs", "not-delivered", "too-late", "final-sale", "not-processing"}


def test_too_much_money_fails() -> None:
    env = th.make("store")
    assert isinstance(env, Store)
    for task in range(100):
        env.reset(options={"task": task})
        name, arguments = env.plan[-1]
        if name == "refund" and arguments["amount"] > 5:
            break
    env.step(render_call("refund", **{**arguments, "amount": arguments["amount"] - 5}))
    *_, info = env.step(render_call("done", answer=env.goal.answer))
    assert not info["success"]
