"""The state of a desk during a case: what was said, opened and done, and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..tasks import Instance
from .cases import right_action


@dataclass(slots=True)
class Desk:
    """All of it is JSON, so that a snapshot is its fields."""

    minutes: int = 0
    violations: int = 0
    need: int = 0
    """Number of the need that the customer has come to; earlier ones are settled."""
    is_account_told: bool = False
    is_wish_told: bool = False
    is_account_open: bool = False
    opened: list[int] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)
    """Action by order; each order is acted on once."""
    has_apologised: bool = False
    has_pleaded: bool = False
    said: list[list[str]] = field(default_factory=list)
    """["agent" or "customer", text] of the conversation; replies of a model are kept here."""

    def acted(self, case: Instance, need: dict[str, Any]) -> str | None:
        """What was done for a need, None as long as nothing was."""
        if right_action(case, need) == "tell":
            return "tell" if self.is_wish_told and need["order"] in self.opened else None
        return self.done.get(str(need["order"]))

    def is_resolved(self, case: Instance) -> bool:
        """Was exactly what the policy says done for each need, and nothing against it?"""
        right = {str(n["order"]): right_action(case, n) for n in case["needs"]}
        all_acted = all(self.acted(case, need) for need in case["needs"])
        wanted = {order: action for order, action in right.items() if action != "tell"}
        return all_acted and self.done == wanted and not self.violations
