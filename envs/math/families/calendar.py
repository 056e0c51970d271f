"""Dates of the Gregorian calendar."""

from __future__ import annotations

import random
from datetime import date

from ..problem import RuledProblem

_FIRST, _LAST = date(1901, 1, 1).toordinal(), date(2200, 1, 1).toordinal()
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def dates(rng: random.Random, difficulty: int) -> RuledProblem:
    """Days between dates, the date after some days, the weekday of a date.

    The work counts days from the first of January of year 1, a Monday.
    """
    span = min(30 * 4**difficulty, _LAST - _FIRST) if difficulty < 10 else _LAST - _FIRST
    days = rng.randint(2, span)
    begin = rng.randint(_FIRST, _LAST)
    end = begin + days
    first, last = date.fromordinal(begin), date.fromordinal(end)
    kind = rng.randrange(3)
    if kind == 0:
        question, answer, rule = f"How many days after {first} is {last}?", str(days), "integer"
        work = f"{end}-{begin}={days}"
    elif kind == 1:
        question = f"Which date is {days} days after {first}? Write it like {first}."
        answer, rule, work = str(last), "text", f"{begin}+{days}={end}"
    else:
        weekday = (begin - 1) % 7
        question = (
            f"{first} is a {_WEEKDAYS[weekday]}. Which day of the week is {last}? "
            "One word, like Monday."
        )
        answer, rule = _WEEKDAYS[(weekday + days) % 7], "text"
        work = f"{end}-{begin}={days} mod({days},7)={days % 7}"
    return RuledProblem(question=question, answer=answer, work=work, rule=rule)
