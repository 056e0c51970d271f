"""`Calendar-v0`: a working week, in which meetings are found, booked, moved and cancelled."""

from __future__ import annotations

import random
from typing import Any

from ..tasks import Instance
from .domain import MAX_CALLS, Call, Domain, Goal
from .tool import tool
from .week import DAYS, GRID, OPENS, Day, Event, Week, clock, parse_clock

TITLES = (
    "Audit", "Briefing", "Coaching", "Demo", "Errands", "Feedback", "Gym", "Handover", "Interview",
    "Jour fixe", "Kickoff", "Lunch", "Mentoring", "Negotiation", "Onboarding", "Planning", "Quiz",
    "Review", "Standup", "Training", "Update", "Vendor call", "Workshop", "Yoga",
)  # fmt: skip
LENGTHS = (30, 60, 90, 120)
_NEEDS = {"book": 2, "move": 3, "cancel": 2}
_WORDS = {
    "book": "Book {title} ({minutes} minutes) on {day}, as early as there is room.",
    "move": "Move {title} to {day}, as early as there is room.",
    "cancel": "Cancel {title}.",
}
_LAST = {
    "book": "Answer with the time at which {title} begins.",
    "move": "Answer with the time at which {title} begins now.",
    "cancel": "Answer with the number of meetings left on {day}.",
}


class Calendar(Domain):
    """The calendar of one working week: find free time, book, move and cancel meetings."""

    system_prompt = (
        "You keep a calendar by its tools. The week is mon to fri, 09:00 to 17:00, and meetings "
        "begin at full or half hours. Meetings never overlap. Do what is asked in the order in "
        "which it is asked, touch nothing else, and call done with the answer in the end: a time "
        "such as 09:30, or a number."
    )

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A week of six meetings and more, and one to three requests."""
        while True:
            titles = rng.sample(TITLES, len(TITLES))
            week = Week({}, 0)
            for title in titles[: min(4 + 2 * difficulty, 16)]:
                day, minutes = rng.choice(DAYS), rng.choice(LENGTHS)
                if gaps := week.gaps(day, minutes):
                    week.book(title, day, rng.choice(gaps)[0], minutes)
            events, fresh = week.dump()["events"], titles[16:]
            requests: list[dict[str, Any]] = []
            for _ in range(min(difficulty, 3)):
                requests.append(_draw_request(rng, week, fresh, [r["title"] for r in requests]))
                _solve(week, requests[-1])
            if _calls(requests) <= MAX_CALLS:
                return {"events": events, "requests": requests}

    def content(self, instance: Instance) -> Any:
        """The requests, the meetings they name, and what else is on their days."""
        requests, events = instance["requests"], instance["events"].values()
        days, titles = {r["day"] for r in requests}, {r["title"] for r in requests}
        named = sorted(event for event in events if event[0] in titles)
        return [requests, named, sorted(event[1:] for event in events if event[1] in days)]

    def question(self) -> str:
        """The requests, and what to answer."""
        requests = self.instance["requests"]
        lines = [_WORDS[request["kind"]].format(**request) for request in requests]
        return " ".join([*lines, _LAST[requests[-1]["kind"]].format(**requests[-1])])

    def opening(self) -> dict[str, Any]:
        """The meetings of the instance."""
        return {"events": self.instance["events"], "booked": len(self.instance["events"])}

    def load(self, world: dict[str, Any]) -> None:
        """Set the week up."""
        self.week = Week(**world)

    def dump(self) -> dict[str, Any]:
        """The week."""
        return self.week.dump()

    def outcome(self) -> list[Event]:
        """What is when; the ids of meetings do not matter."""
        return self.week.plain()

    def find_goal(self) -> Goal:
        """Do the requests in order, in a week of its own."""
        week, last = Week(**self.opening()), self.instance["requests"][-1]
        for request in self.instance["requests"]:
            _solve(week, request)
        if last["kind"] == "cancel":
            return Goal(week.plain(), len(week.on(last["day"])))
        return Goal(week.plain(), clock(week.events[week.find(last["title"])][2]))

    def find_plan(self) -> list[Call]:
        """Look before each deed; after a cancellation, count what is left."""
        week, requests = Week(**self.opening()), self.instance["requests"]
        plan = [call for request in requests for call in _solve(week, request)]
        if requests[-1]["kind"] == "cancel":
            plan.append(("list_meetings", {"day": requests[-1]["day"]}))
        return plan

    def repair(self, goal: Goal) -> Call | None:
        """Cancel what should not be, move what is elsewhere, book what is missing."""
        wanted = {event[0]: event for event in goal.outcome}
        kept: set[str] = set()
        for id, event in self.week.events.items():
            if event[0] not in wanted or event[0] in kept:
                return "cancel", {"id": id}
            kept.add(event[0])
        for id, event in self.week.events.items():
            _, day, start, end = wanted[event[0]]
            if event != wanted[event[0]]:
                is_free = any(a <= start and end <= b for a, b in self.week.gaps(day, end - start))
                if is_free and end - start == event[3] - event[2]:
                    return "move", {"id": id, "day": day, "start": clock(start)}
                return "cancel", {"id": id}
        for title in [title for title in wanted if title not in kept]:
            _, day, start, end = wanted[title]
            return "book", _booking(title, day, start, end - start)
        return None

    def blunders(self, rng: random.Random) -> list[Call]:
        """Book without looking, or take the wrong meeting."""
        request = rng.choice(self.instance["requests"])
        start = OPENS + GRID * rng.randrange(14)
        wrong: list[Call] = [("list_meetings", {"day": rng.choice(DAYS)})]
        if request["kind"] == "book":
            minutes = request["minutes"]
            return [*wrong, ("book", _booking(request["title"], request["day"], start, minutes))]
        id = rng.choice(list(self.week.events) or ["m1"])
        if request["kind"] == "move":
            return [*wrong, ("move", {"id": id, "day": request["day"], "start": clock(start)})]
        return [*wrong, ("cancel", {"id": id})]

    @tool
    def list_meetings(self, day: Day) -> str:
        """The meetings of a day, with their ids."""
        found = self.week.on(day)
        return "; ".join([self.week.tell(id) for id in found]) or f"nothing on {day}"

    @tool
    def find_meeting(self, title: str) -> str:
        """The meeting of a title, with its id."""
        return self.week.tell(self.week.find(title))

    @tool
    def find_free(self, day: Day, minutes: int) -> str:
        """The times of a day that are free for at least so many minutes."""
        gaps = self.week.gaps(day, minutes)
        return ", ".join([f"{clock(a)}-{clock(b)}" for a, b in gaps]) or "no room"

    @tool
    def book(self, title: str, day: Day, start: str, minutes: int) -> str:
        """Book a meeting."""
        return self.week.tell(self.week.book(title, day, parse_clock(start), minutes))

    @tool
    def move(self, id: str, day: Day, start: str) -> str:
        """Move a meeting; it stays as long as it is."""
        self.week.move(id, day, parse_clock(start))
        return self.week.tell(id)

    @tool
    def cancel(self, id: str) -> str:
        """Cancel a meeting."""
        self.week.cancel(id)
        return "cancelled"


def _draw_request(
    rng: random.Random, week: Week, fresh: list[str], used: list[str]
) -> dict[str, Any]:
    """One thing to do that the week has room for, with no meeting used before."""
    titles = [event[0] for event in week.events.values() if event[0] not in used]
    while True:
        kind, day = rng.choice(("book", "move", "cancel")), rng.choice(DAYS)
        if kind == "book":
            minutes = rng.choice(LENGTHS)
            if week.gaps(day, minutes):
                return {"kind": kind, "title": fresh.pop(), "day": day, "minutes": minutes}
        elif titles:
            title = rng.choice(titles)
            _, old_day, start, end = week.events[week.find(title)]
            if kind == "cancel":
                return {"kind": kind, "title": title, "day": old_day}
            if day != old_day and week.gaps(day, end - start):
                return {"kind": kind, "title": title, "day": day}


def _solve(week: Week, request: dict[str, Any]) -> list[Call]:
    """Do a request in the week; returns the calls of someone who looks first."""
    title, day = request["title"], request["day"]
    if request["kind"] == "book":
        minutes = request["minutes"]
        start = week.gaps(day, minutes)[0][0]
        week.book(title, day, start, minutes)
        look = ("find_free", {"day": day, "minutes": minutes})
        return [look, ("book", _booking(title, day, start, minutes))]
    id = week.find(title)
    find: Call = ("find_meeting", {"title": title})
    if request["kind"] == "cancel":
        week.cancel(id)
        return [find, ("cancel", {"id": id})]
    minutes = week.events[id][3] - week.events[id][2]
    start = week.gaps(day, minutes)[0][0]
    week.move(id, day, start)
    move: Call = ("move", {"id": id, "day": day, "start": clock(start)})
    return [find, ("find_free", {"day": day, "minutes": minutes}), move]


def _calls(requests: list[dict[str, Any]]) -> int:
    """Calls that the requests need, `done` included."""
    last: bool = requests[-1]["kind"] == "cancel"  # whose answer has to be looked up
    return sum(_NEEDS[request["kind"]] for request in requests) + last + 1


def _booking(title: str, day: Day, start: int, minutes: int) -> dict[str, Any]:
    return {"title": title, "day": day, "start": clock(start), "minutes": minutes}
