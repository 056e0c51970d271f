"""A week of meetings that never overlap: the world of `Calendar-v0`."""

from __future__ import annotations

import re
from typing import Any, Literal

from .tool import ToolError

Day = Literal["mon", "tue", "wed", "thu", "fri"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri")
OPENS, CLOSES, GRID = 9 * 60, 17 * 60, 30
"""Minutes after midnight, and the minutes that starts and lengths are multiples of."""
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)

Event = tuple[str, Day, int, int]
"""Title, day, start and end in minutes after midnight."""


class Week:
    """Meetings by id; every change keeps them apart."""

    def __init__(self, events: dict[str, Any], booked: int) -> None:
        self.events: dict[str, Event] = {id: tuple(e) for id, e in events.items()}
        self.booked = booked
        """Meetings ever booked, so that no id comes twice."""

    def dump(self) -> dict[str, Any]:
        """The week as JSON; the arguments of the constructor."""
        return {"events": {id: list(e) for id, e in self.events.items()}, "booked": self.booked}

    def plain(self) -> list[Event]:
        """What is when, whatever the ids."""
        return sorted(self.events.values())

    def on(self, day: Day) -> list[str]:
        """Ids of the meetings of a day, early ones first."""
        events = self.events
        return sorted((id for id in events if events[id][1] == day), key=lambda id: events[id][2])

    def find(self, title: str) -> str:
        """The id of the first meeting of a title."""
        wanted = title.strip().casefold()
        for id, event in self.events.items():
            if event[0].casefold() == wanted:
                return id
        raise ToolError(f"no meeting called {title[:40]!r}")

    def gaps(self, day: Day, minutes: int) -> list[tuple[int, int]]:
        """The free times of a day that are at least so long."""
        _require_length(minutes)
        gaps, at = [], OPENS
        for id in self.on(day):
            start, end = self.events[id][2:]
            if start - at >= minutes:
                gaps.append((at, start))
            at = end
        return [*gaps, (at, CLOSES)] if CLOSES - at >= minutes else gaps

    def book(self, title: str, day: Day, start: int, minutes: int) -> str:
        """Add a meeting; returns its id."""
        _require_length(minutes)
        if not 0 < len(title.strip()) <= 40:
            raise ToolError("a title has 1 to 40 characters")
        self._require_room(day, start, start + minutes)
        self.booked += 1
        id = f"m{self.booked}"
        self.events[id] = (title.strip(), day, start, start + minutes)
        return id

    def move(self, id: str, day: Day, start: int) -> None:
        """Put a meeting elsewhere, as long as it is."""
        title, _, old_start, old_end = self._look_up(id)
        self._require_room(day, start, start + old_end - old_start, besides=id)
        self.events[id] = (title, day, start, start + old_end - old_start)

    def cancel(self, id: str) -> None:
        """Remove a meeting."""
        self._look_up(id)
        del self.events[id]

    def tell(self, id: str) -> str:
        """A meeting in words."""
        title, day, start, end = self.events[id]
        return f"{id} {title} {day} {clock(start)}-{clock(end)}"

    def _look_up(self, id: str) -> Event:
        if id not in self.events:
            raise ToolError(f"no meeting {id[:40]!r}; ids look like m1")
        return self.events[id]

    def _require_room(self, day: Day, start: int, end: int, besides: str = "") -> None:
        if start < OPENS or end > CLOSES:
            raise ToolError(f"a day goes from {clock(OPENS)} to {clock(CLOSES)}")
        for id in self.on(day):
            if id != besides and self.events[id][2] < end and start < self.events[id][3]:
                raise ToolError(f"overlaps with {self.tell(id)}")


def clock(minutes: int) -> str:
    """Minutes after midnight as HH:MM."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def parse_clock(text: str) -> int:
    """HH:MM as minutes after midnight.

    Raises:
        ToolError: No such time, or none of the grid.
    """
    match = _CLOCK.fullmatch(text.strip())
    minutes = int(match[1]) * 60 + int(match[2]) if match else -1
    if match is None or minutes % GRID:
        raise ToolError(f"a time is HH:00 or HH:30, such as 09:30, got {text[:20]!r}")
    return minutes


def _require_length(minutes: int) -> None:
    if not GRID <= minutes <= CLOSES - OPENS or minutes % GRID:
        raise ToolError(f"minutes are a multiple of {GRID} up to {CLOSES - OPENS}, got {minutes}")
