"""What tests found, for code that comes again: the rollouts of a group often write the same.

Every test still has a process of its own; it is only not run a second time in this one. An outcome
that a busy machine may have caused (a timeout, too much memory) is never kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from .tests import Outcome

MAX_OUTCOMES = 4096

Key = tuple[str, ...]


class Memory:
    """The last outcomes, by all that they depend on; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: OrderedDict[Key, Outcome] = OrderedDict()

    def get(self, key: Key) -> Outcome | None:
        """What was found before, or None."""
        with self._lock:
            if key in self._outcomes:
                self._outcomes.move_to_end(key)
            return self._outcomes.get(key)

    def put(self, key: Key, outcome: Outcome) -> None:
        """Keep an outcome, if it says something of the code alone."""
        if not outcome.status.ended_by_itself:
            return
        with self._lock:
            self._outcomes[key] = outcome
            if len(self._outcomes) > MAX_OUTCOMES:
                self._outcomes.popitem(last=False)
