"""Sessions of the transformers engine, and who has a row of its cache.

Without a budget every session has a row from its first turn to its end. With one, rows are for
turns that run, then for those that wait and were begun before others, then for sessions that pause,
the longest unused last. Who loses a row has it computed again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .base import Request
from .cache import SlotCache, capacity


@dataclass(slots=True)
class Session:
    """An episode as the engine knows it."""

    slot: int | None
    """Row of the cache; None while the budget has no room."""
    cached: list[int] = field(default_factory=list)
    """Tokens whose keys and values are in the row."""
    request: Request | None = None
    """The turn that waits or runs."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    kept_mass: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens that the row must hold."""
        if self.request is None:
            return len(self.cached) + 1
        return len(self.request.token_ids) + self.request.sampling.max_new_tokens


class Seats:
    """Gives out the rows of a cache."""

    def __init__(self, cache: SlotCache, token_bytes: int, max_bytes: float) -> None:
        self.sessions: dict[int, Session] = {}
        """In the order of their last use."""
        self.width = 0
        """Rows that are in use, or were and lie between those that are."""
        self._cache, self._token_bytes, self._max_bytes = cache, token_bytes, max_bytes
        self._free: list[int] = []

    def open(self, key: int) -> Session:
        """The session of that name, an old one or a new."""
        session = self.sessions.pop(key, None)
        if session is None:
            session = Session(self._slot() if self._max_bytes == math.inf else None)
        self.sessions[key] = session
        return session

    def inherit(self, session: Session, parent: int) -> None:
        """Give a new session what is in the row of another, if both have one."""
        source = self.sessions.get(parent)
        if source is None or source.slot is None or session.slot is None or session.cached:
            return
        self._cache.copy(source.slot, [session.slot], len(source.cached))
        session.cached = list(source.cached)

    def close(self, key: int) -> Session | None:
        """Forget a session; its row is free."""
        session = self.sessions.pop(key, None)
        if session is not None:
            self._vacate(session)
            if not self.sessions:
                self._free, self.width = [], 0
                self._cache.clear()
            elif len(self.sessions) * 2 < self.width:
                self._compact()
        return session

    def seat(self, waiting: list[Session]) -> tuple[list[Session], list[Session]]:
        """Split waiting sessions: those that have a row now, and those that wait on."""
        if self._max_bytes != math.inf:
            most = self._most_rows()
            holders = [s for s in self.sessions.values() if s.slot is not None]
            idle = [s for s in holders if s.request is None]
            seated = [s for s in waiting if s.slot is not None]
            standing = [s for s in waiting if s.slot is None]
            room = most - (len(holders) - len(idle) - len(seated))
            ranked = [*seated, *standing, *reversed(idle)]
            for session in ranked[max(0, room) :]:
                self._vacate(session)
            if most < self.width:
                self._compact()  # rows that are free would grow with the longest all the same
            for session in standing[: max(0, room - len(seated))]:
                session.slot = self._slot()
        return (
            [s for s in waiting if s.slot is not None],
            [s for s in waiting if s.slot is None],
        )

    def _most_rows(self) -> int:
        longest = max(session.length for session in self.sessions.values())
        length = capacity(max(longest, self._cache.length))
        return max(1, int(self._max_bytes // (self._token_bytes * length)))

    def _slot(self) -> int:
        if self._free:
            self._free.sort(reverse=True)
            return self._free.pop()
        self.width += 1
        return self.width - 1

    def _vacate(self, session: Session) -> None:
        if session.slot is not None:
            self._free.append(session.slot)
        session.slot, session.cached = None, []

    def _compact(self) -> None:
        holders = {s.slot: s for s in self.sessions.values() if s.slot is not None}
        slots = sorted(holders)
        self._cache.move(slots)
        for new, old in enumerate(slots):
            holders[old].slot = new
        self._free, self.width = [], len(slots)


def row_of(session: Session) -> int:
    """The row of a session that has one."""
    assert session.slot is not None
    return session.slot


def tail(session: Session) -> list[int]:
    """Tokens of the session's turn that are not in its row."""
    assert session.request is not None
    return session.request.token_ids[len(session.cached) :]
