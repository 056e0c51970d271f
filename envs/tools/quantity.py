"""Quantities with units, exactly: a rational number and how often it holds each base dimension."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from .tool import ToolError

Dimension = tuple[int, int, int, int]
"""Powers of metre, second, kilogram and euro."""
BASES = ("m", "s", "kg", "eur")
NUMBER: Dimension = (0, 0, 0, 0)
UNITS: dict[str, tuple[Fraction, Dimension]] = {
    "m": (Fraction(1), (1, 0, 0, 0)),
    "cm": (Fraction(1, 100), (1, 0, 0, 0)),
    "km": (Fraction(1000), (1, 0, 0, 0)),
    "in": (Fraction("0.0254"), (1, 0, 0, 0)),
    "ft": (Fraction("0.3048"), (1, 0, 0, 0)),
    "mi": (Fraction("1609.344"), (1, 0, 0, 0)),
    "L": (Fraction(1, 1000), (3, 0, 0, 0)),
    "s": (Fraction(1), (0, 1, 0, 0)),
    "min": (Fraction(60), (0, 1, 0, 0)),
    "h": (Fraction(3600), (0, 1, 0, 0)),
    "day": (Fraction(86400), (0, 1, 0, 0)),
    "g": (Fraction(1, 1000), (0, 0, 1, 0)),
    "kg": (Fraction(1), (0, 0, 1, 0)),
    "t": (Fraction(1000), (0, 0, 1, 0)),
    "lb": (Fraction("0.45359237"), (0, 0, 1, 0)),
    "eur": (Fraction(1), (0, 0, 0, 1)),
    "cent": (Fraction(1, 100), (0, 0, 0, 1)),
}
"""Factor to the base units, and dimension; all of them exact by definition."""
_MAX_TEXT, _MAX_BITS, _MAX_POWER, _MAX_PLACES = 120, 128, 6, 40
_ONE = Fraction(1)
_QUANTITY = re.compile(r"([+-]?\d{1,80})(?:\.(\d{1,80})|/(\d{1,80}))?\s*(.*)", re.ASCII)
_FACTOR = re.compile(r"([A-Za-z]+)([2-6]?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in base units, and its dimension."""

    value: Fraction
    dimension: Dimension = NUMBER

    def combine(self, operator: str, other: Quantity) -> Quantity:
        """Add, subtract, multiply or divide.

        Raises:
            ToolError: Different dimensions are added, or something is divided by zero.
        """
        if operator in "+-":
            if self.dimension != other.dimension:
                raise ToolError(f"cannot add {base_unit(self)} and {base_unit(other)}")
            sign = 1 if operator == "+" else -1
            return _capped(self.value + sign * other.value, self.dimension)
        if operator == "/" and not other.value:
            raise ToolError("division by zero")
        sign = 1 if operator == "*" else -1
        dimension = _add(self.dimension, other.dimension, sign)
        product = operator == "*"
        value = self.value * other.value if product else self.value / other.value
        return _capped(value, dimension)


def parse_quantity(text: str) -> Quantity:
    """Read a number and a unit: `12.5 km`, `50/3 m/s`, `7`.

    Raises:
        ToolError: Says how a quantity reads.
    """
    match = _QUANTITY.fullmatch(text.strip()) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ToolError(f"a quantity reads like 12.5 km or 50/3 m/s, got {text[:40]!r}")
    digits, places, below, unit = match.groups()
    if below is not None and not int(below):
        raise ToolError("division by zero")
    above = int(digits + places) if places else int(digits)
    factor, dimension = parse_unit(unit) if unit else (_ONE, NUMBER)
    divisor = int(below) if below else 10 ** len(places) if places else 1
    value = Fraction(above * factor.numerator, divisor * factor.denominator)
    return _capped(value, dimension)


def parse_unit(text: str) -> tuple[Fraction, Dimension]:
    """Read a unit: `km`, `m2`, `km/h`, `kg*m`; its factor and dimension.

    Raises:
        ToolError: No such unit; says which there are.
    """
    if len(text) > _MAX_TEXT:  # before the cache, which would keep what a policy wrote
        raise ToolError(f"a unit has at most {_MAX_TEXT} characters")
    return _parse_unit(text.strip())


@lru_cache(maxsize=512)
def _parse_unit(text: str) -> tuple[Fraction, Dimension]:
    factor, dimension, sign = Fraction(1), NUMBER, 1
    for part in re.split(r"([*/])", text):
        if part in ("*", "/", "1"):  # 1/s is once a second
            sign = -1 if part == "/" else 1
            continue
        match = _FACTOR.fullmatch(part)
        if match is None or match[1] not in UNITS:
            raise ToolError(f"no unit {text[:40]!r}; units: {', '.join(UNITS)}, as in km/h or m3")
        size, one = UNITS[match[1]]
        power = sign * int(match[2] or 1)
        factor *= size**power
        dimension = _add(dimension, one, power)
    return factor, dimension


def write_in(quantity: Quantity, unit: str) -> str:
    """The quantity in a unit, as text that `parse_quantity` reads.

    Raises:
        ToolError: The unit measures something else.
    """
    factor, dimension = parse_unit(unit)
    if dimension != quantity.dimension:
        raise ToolError(f"{unit} does not measure what {base_unit(quantity)} does")
    return f"{write_number(quantity.value / factor)} {unit.strip()}"


def write_base(quantity: Quantity) -> str:
    """The quantity in base units."""
    return f"{write_number(quantity.value)} {base_unit(quantity)}".strip()


def write_number(value: Fraction) -> str:
    """A rational number exactly: as a decimal where it has one, else as p/q."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or not 0 < places <= _MAX_PLACES:
        return str(value)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def base_unit(quantity: Quantity) -> str:
    """The unit of the quantity in base units, such as m/s; nothing for a number."""
    return _base_unit(quantity.dimension)


@lru_cache(maxsize=4096)
def _base_unit(dimension: Dimension) -> str:
    pairs = list(zip(BASES, dimension, strict=True))
    above = "*".join(f"{u}{p if p > 1 else ''}" for u, p in pairs if p > 0)
    below = "".join(f"/{u}{-p if p < -1 else ''}" for u, p in pairs if p < 0)
    return (above or "1") + below if below else above


def _add(left: Dimension, right: Dimension, times: int) -> Dimension:
    m, s, kg, eur = left
    m, s, kg = m + times * right[0], s + times * right[1], kg + times * right[2]
    eur += times * right[3]
    if max(m, s, kg, eur) > _MAX_POWER or min(m, s, kg, eur) < -_MAX_POWER:
        raise ToolError(f"powers of units go up to {_MAX_POWER}")
    return (m, s, kg, eur)


def _capped(value: Fraction, dimension: Dimension) -> Quantity:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise ToolError("the number became too long")
    return Quantity(value, dimension)
