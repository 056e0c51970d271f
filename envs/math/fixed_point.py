"""Roots and pi in whole numbers of a small unit, as many digits as are asked for."""

from __future__ import annotations

import math
from functools import cache


def whole_root(number: int, index: int) -> int:
    """The largest integer whose power is at most `number`, by Newton's method from above."""
    if index == 2 or not number:
        return math.isqrt(number)
    better = 1 << -(-number.bit_length() // index)
    while True:
        guess, power = better, int(better ** (index - 1))
        better = ((index - 1) * guess + number // power) // index
        if better >= guess:
            return guess


@cache
def pi(digits: int) -> int:
    """Pi in units of 2^-digits, at most two too small (Machin 1706)."""
    return (16 * _arctangent(5, digits + 32) - 4 * _arctangent(239, digits + 32)) >> 32


def _arctangent(inverse: int, digits: int) -> int:
    """Of one over `inverse`."""
    term = total = (1 << digits) // inverse
    n, square = 1, inverse * inverse
    while term:
        n, term = n + 2, -(term // square) if term > 0 else -term // square
        total += term // n
    return total
