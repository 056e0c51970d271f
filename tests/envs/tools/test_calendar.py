"""The calendar: meetings never overlap."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

import turnhalle as th
from turnhalle.envs.tools.calendar import Calendar
from turnhalle.envs.tools.formats import render_call
from turnhalle.envs.tools.tool import ToolError
from turnhalle.envs.tools.week import CLOSES, DAYS, GRID, OPENS, Week, clock, parse_clock


@pytest.fixture
def week() -> Week:
    week = Week({}, 0)
    week.book("Demo", "mon", 600, 60)
    week.book("Lunch", "mon", 720, 30)
    return week


def test_gaps_are_where_nothing_is(week: Week) -> None:
    assert week.gaps("mon", 30) == [(540, 600), (660, 720), (750, 1020)]
    assert week.gaps("mon", 90) == [(750, 1020)]
    assert week.gaps("tue", 480) == [(540, 1020)]
    assert week.gaps("mon", 480) == []


@pytest.mark.parametrize(
    ("start", "minutes", "said"),
    [
        (570, 60, "overlaps with m1 Demo mon 10:00-11:00"),
        (630, 30, "overlaps"),
        (690, 60, "overlaps with m2"),
        (540, 480, "overlaps"),
        (990, 60, "from 09:00 to 17:00"),
        (480, 30, "from 09:00"),
        (540, 45, "multiple of 30"),
        (540, 0, "multiple of 30"),
    ],
)
def test_what_does_not_fit_is_refused(week: Week, start: int, minutes: int, said: str) -> None:
    before = week.dump()
    with pytest.raises(ToolError, match=said):
        week.book("Yoga", "mon", start, minutes)
    assert week.dump() == before


def test_meetings_may_touch(week: Week) -> None:
    week.book("Yoga", "mon", 660, 60)
    assert [week.events[id][0] for id in week.on("mon")] == ["Demo", "Yoga", "Lunch"]


def test_a_move_keeps_the_length_and_may_overlap_itself(week: Week) -> None:
    week.move("m1", "mon", 570)
    assert week.events["m1"] == ("Demo", "mon", 570, 630)
    with pytest.raises(ToolError, match="overlaps with m2"):
        week.move("m1", "mon", 690)


def test_ids_never_come_twice(week: Week) -> None:
    week.cancel("m2")
    assert week.book("Quiz", "mon", 720, 30) == "m3"


@pytest.mark.parametrize("text", ["9:00", "25:00", "10:15", "10:60", "noon", "", "٠٩:٠٠"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ToolError, match="a time is HH:00 or HH:30"):
        parse_clock(text)


def test_times_are_read_as_they_are_written() -> None:
    for minutes in range(OPENS, CLOSES, GRID):
        assert parse_clock(clock(minutes)) == minutes


def test_random_use_never_makes_meetings_overlap() -> None:
    rng, env = random.Random(0), th.make("calendar", max_turns=1000)
    assert isinstance(env, Calendar)
    env.reset(seed=0)
    for _ in range(500):
        day, start = rng.choice(DAYS), clock(30 * rng.randrange(16, 36))
        id, minutes = f"m{rng.randrange(1, 40)}", 30 * rng.randrange(1, 6)
        calls = [
            render_call("book", title="x", day=day, start=start, minutes=minutes),
            render_call("move", id=id, day=day, start=start),
            render_call("cancel", id=id),
        ]
        env.step(rng.choice(calls))
        for day in DAYS:
            events = [env.week.events[id] for id in env.week.on(day)]
            assert all(a[3] <= b[2] for a, b in pairwise(events))
            assert all(OPENS <= event[2] < event[3] <= CLOSES for event in events)
    assert env.week.booked > 20


def test_another_way_to_the_same_week_is_right() -> None:
    env = th.make("calendar")
    assert isinstance(env, Calendar)
    for task in range(100):
        env.reset(options={"task": task})
        if env.plan[-1][0] == "move":
            break
    _, move = env.plan[-1]
    title, _, start, end = env.week.events[move["id"]]
    again = {"title": title, "minutes": end - start, "day": move["day"], "start": move["start"]}
    env.step(render_call("cancel", id=move["id"]) + render_call("book", **again))
    *_, info = env.step(render_call("done", answer=env.goal.answer))
    assert info["success"]
