"""Procedural families of math tasks: each draws a question, its answer, and a worked solution."""

from __future__ import annotations

from ..problem import Family
from .algebra import derivative, expand, linear, root, sequence, system
from .calendar import dates
from .chains import running_total
from .counting import probability
from .numbers import arithmetic, base, divisors, expression, remainder
from .parts import fraction, percent, rate
from .stories import story

FAMILIES: dict[str, Family] = {
    "arithmetic": arithmetic,
    "base": base,
    "chain": running_total,
    "dates": dates,
    "derivative": derivative,
    "divisors": divisors,
    "expand": expand,
    "expression": expression,
    "fraction": fraction,
    "linear": linear,
    "percent": percent,
    "probability": probability,
    "rate": rate,
    "remainder": remainder,
    "root": root,
    "sequence": sequence,
    "story": story,
    "system": system,
}
