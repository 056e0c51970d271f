"""The books of a shop in SQLite, in memory: the world of `Store-v0`."""

from __future__ import annotations

import sqlite3
import weakref
from typing import Any

from .tool import ToolError

TABLES = {
    "products": "name TEXT PRIMARY KEY, category TEXT, price INT, stock INT, is_final_sale INT",
    "orders": "id INTEGER PRIMARY KEY, customer TEXT, status TEXT, days INT",
    "lines": "id INTEGER, product TEXT, quantity INT, is_opened INT, PRIMARY KEY (id, product)",
    "refunds": "id INTEGER, product TEXT, amount INT, PRIMARY KEY (id, product)",
    "refusals": "id INTEGER, reason TEXT, PRIMARY KEY (id, reason)",
}
"""Prices and amounts are euros; `days` are those since the delivery."""
_OUTCOME = (
    "SELECT (SELECT group_concat(stock) FROM (SELECT stock FROM products ORDER BY name)), "
    "(SELECT group_concat(status) FROM (SELECT status FROM orders WHERE id <= ? ORDER BY id)), "
    "(SELECT group_concat(id || ' ' || product || ' ' || amount) FROM "
    "(SELECT * FROM refunds ORDER BY id, product)), "
    "(SELECT group_concat(id || ' ' || reason) FROM "
    "(SELECT * FROM refusals ORDER BY id, reason)), (SELECT max(id) FROM orders)"
)
"""One row says all of it but purchases, as text: a statement costs more than what it does."""
_ORDER = (
    "SELECT customer, status, days, product, quantity, is_opened "
    "FROM orders JOIN lines USING (id) WHERE id = ? ORDER BY product"
)
_PAID = (
    "SELECT quantity * price FROM lines JOIN products ON product = name "
    "WHERE id = ? AND product = ?"
)
_PAID_IN_ALL = (
    "SELECT sum(quantity * price) FROM lines JOIN products ON product = name WHERE id = ?"
)
_REFUSE = "INSERT OR IGNORE INTO refusals SELECT id, ? FROM orders WHERE id = ?"
_RESTOCK = "UPDATE products SET stock = stock + quantity FROM lines WHERE product = name AND id = ?"
Outcome = tuple[list[str | None], list[tuple[str, str, int]]]
"""Stock, states, refunds and refusals as text; purchases by customer, product and quantity."""
Rows = dict[str, list[list[Any]]]


class Books:
    """Products, orders and refunds. The tables allow what is possible, not only what is policy."""

    def __init__(self) -> None:
        # Environments may be stepped from one thread after another, never from two at once.
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for name, columns in TABLES.items():
            # Without rowid a table is its own index; orders need one to count on.
            rest = "" if name == "orders" else "WITHOUT ROWID"
            self._db.execute(f"CREATE TABLE {name} ({columns}) {rest}")
        weakref.finalize(self, self._db.close)

    def fill(self, rows: Rows) -> None:
        """Replace all rows."""
        self._db.execute("BEGIN")
        for name, values in rows.items():
            self._db.execute(f"DELETE FROM {name}")
            if values:
                marks = ",".join("?" * len(values[0]))
                self._db.executemany(f"INSERT INTO {name} VALUES ({marks})", values)
        self._db.execute("COMMIT")

    def rows(self) -> Rows:
        """All rows, in the order of their keys."""
        return {
            name: [list(row) for row in self._db.execute(f"SELECT * FROM {name} ORDER BY 1, 2")]
            for name in TABLES
        }

    def outcome(self, last_order: int) -> Outcome:
        """What is judged: stock, refunds, refusals, old orders, and purchases whatever their id."""
        *texts, newest = self._db.execute(_OUTCOME, (last_order,)).fetchone()
        bought: list[tuple[str, str, int]] = []
        for id in range(last_order + 1, newest + 1):
            bought += [(row[0], row[3], row[4]) for row in self.order(id) if row[1] == "processing"]
        return texts, sorted(bought)

    def order(self, id: int) -> list[tuple[str, str, int, str, int, int]]:
        """A row a product: customer, status, days, then name, quantity, was it opened."""
        rows = self._db.execute(_ORDER, (id,)).fetchall()
        if not rows:
            raise ToolError(f"no order {id}")
        return rows

    def product(self, name: str) -> tuple[str, int, int, int]:
        """Category, price, stock, is it final sale."""
        query = "SELECT category, price, stock, is_final_sale FROM products WHERE name = ?"
        row: tuple[str, int, int, int] | None = self._db.execute(query, (name,)).fetchone()
        if row is None:
            raise ToolError(f"no product {name[:40]!r}")
        return row

    def search(self, category: str) -> list[tuple[str, int, int]]:
        """Products of a category: name, price, stock."""
        query = "SELECT name, price, stock FROM products WHERE category = ? ORDER BY name"
        return self._db.execute(query, (category,)).fetchall()

    def orders_of(self, customer: str) -> list[tuple[int, str]]:
        """Ids and states of the orders of a customer."""
        query = "SELECT id, status FROM orders WHERE customer = ? ORDER BY id"
        return self._db.execute(query, (customer,)).fetchall()

    def refund(self, id: int, product: str, amount: int) -> None:
        """Pay for a line of an order, once and never more than its price."""
        row = self._db.execute(_PAID, (id, product)).fetchone()
        if row is None:
            self.order(id)
            raise ToolError(f"order {id} holds no {product[:40]}")
        if amount > row[0]:
            raise ToolError(f"only {row[0]} euros were paid")
        try:
            self._db.execute("INSERT INTO refunds VALUES (?, ?, ?)", (id, product, amount))
        except sqlite3.IntegrityError:
            raise ToolError("refunded already") from None

    def refuse(self, id: int, reason: str) -> None:
        """Note why something asked of an order was not done; twice is once."""
        if not self._changes(_REFUSE, (reason, id)):
            self.order(id)  # raises where there is none

    def cancel(self, id: int) -> int:
        """Cancel an order that is not on its way; returns the euros that go back."""
        cancel = "UPDATE orders SET status = 'cancelled' WHERE id = ? AND status = 'processing'"
        if not self._changes(cancel, (id,)):
            raise ToolError(f"order {id} is {self.order(id)[0][1]}")
        self._changes(_RESTOCK, (id,))
        paid: int = self._db.execute(_PAID_IN_ALL, (id,)).fetchone()[0]
        return paid

    def place(self, customer: str, product: str, quantity: int) -> int:
        """Order a product; returns the id of the order."""
        take = "UPDATE products SET stock = stock - ? WHERE name = ? AND stock >= ?"
        if not self._changes(take, (quantity, product, quantity)):
            raise ToolError(f"only {self.product(product)[2]} in stock")
        insert = "INSERT INTO orders (customer, status, days) VALUES (?, 'processing', 0)"
        id = self._db.execute(insert, (customer,)).lastrowid or 0
        self._changes("INSERT INTO lines VALUES (?, ?, ?, 0)", (id, product, quantity))
        return id

    def _changes(self, statement: str, values: tuple[Any, ...]) -> bool:
        """Run a statement; did it change a row?"""
        return self._db.execute(statement, values).rowcount > 0
