"""How an expert says an outcome, and how a customer must not be told one."""

from __future__ import annotations

import re
from typing import Any

from ..tasks import Instance
from .cases import right_action

_OUTCOMES = {
    "refund": "I refunded {price} euros.",
    "replace": "A replacement is on its way.",
    "decline": "I cannot do that.",
    "escalate": "I escalated it to a colleague.",
    "tell": "It comes in {arrives} days.",
}
_NUMBER = re.compile(r"\d+")
_ALL_NUMBERS = " ".join(map(str, range(1, 301)))


def say_outcome(case: Instance, need: dict[str, Any]) -> str:
    """The outcome that the policy wants for a need, in words that a customer understands."""
    order = case["orders"].get(str(need["order"]), {})
    return _OUTCOMES[right_action(case, need)].format(**order)


def wrong_outcomes(answer: str) -> list[str]:
    """Messages near a right one that must settle nothing: other numbers, many, other outcomes."""
    wrong = [
        f"{answer} {other}"
        for action, other in _OUTCOMES.items()
        if action in ("replace", "decline", "escalate") and other not in answer
    ]
    found = _NUMBER.search(answer)
    if found is None:
        return wrong
    number = int(found[0])
    instead = [f"{number + 1}", f"{number - 1}", f"{number}0", f"-{number}"]
    instead += [f"{number} or {number + 1}", f"{number - 1} {number}", _ALL_NUMBERS]
    return wrong + [answer[: found.start()] + text + answer[found.end() :] for text in instead]
