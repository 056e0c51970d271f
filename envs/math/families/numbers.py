"""Whole numbers: arithmetic, expressions, divisors, remainders, bases."""

from __future__ import annotations

import math
import random

from ..problem import RuledProblem

_MAX_DIGITS = 60
_DIGITS = "0123456789abcdef"


def arithmetic(rng: random.Random, difficulty: int) -> RuledProblem:
    """One operation on whole numbers of `difficulty + 1` digits; divisions come out even."""
    low = 10 ** min(difficulty, _MAX_DIGITS)
    a, b = rng.randrange(low, 10 * low), rng.randrange(low, 10 * low)
    sign = "+-*/"[rng.randrange(4)]
    if sign == "+":
        result = a + b
    elif sign == "*":
        result = a * b
    elif sign == "-":
        if a == b:
            a += 1
        result = a - b
    else:
        b = b // low + 1  # one or two digits
        result = max(1, a // b)
        a = result * b
    return RuledProblem(
        question=f"Compute {a} {sign} {b}.",
        answer=str(result),
        work=f"{a}{sign}{b}={result}",
        rule="integer",
    )


def expression(rng: random.Random, difficulty: int) -> RuledProblem:
    """Brackets within brackets, `difficulty` deep."""
    limit = 10 + 5 * difficulty
    total = rng.randint(1, limit)
    text, steps, is_product = str(total), [], False
    while True:
        for step in range(difficulty + 1):
            sign = "*" if step % 2 else "+-"[rng.randrange(2)]
            b = rng.randint(2, 9) if sign == "*" else rng.randint(1, limit)
            result = total * b if sign == "*" else total + b if sign == "+" else total - b
            steps.append(f"{_signed(total)}{sign}{b}={result}")
            text = f"({text}) * {b}" if sign == "*" and not is_product else f"{text} {sign} {b}"
            total, is_product = result, sign == "*"
        if total:
            break
    return RuledProblem(
        question=f"Compute {text}.", answer=str(total), work=" ".join(steps), rule="integer"
    )


def divisors(rng: random.Random, difficulty: int) -> RuledProblem:
    """The greatest common divisor or the least common multiple of two numbers."""
    limit = 10 * min(difficulty, 10**6)
    shared = rng.randint(2, limit)
    a, b = shared * rng.randint(2, limit), shared * rng.randint(2, limit)
    if rng.random() < 0.5:
        result, what, name = math.gcd(a, b), "greatest common divisor", "gcd"
        work = f"gcd({a},{b})={result}"
    else:
        result, what, name = math.lcm(a, b), "least common multiple", "lcm"
        work = f"gcd({a},{b})={math.gcd(a, b)} {a}*{b}/{math.gcd(a, b)}={result}"
    return RuledProblem(
        question=f"What is the {what} ({name}) of {a} and {b}?",
        answer=str(result),
        work=work,
        rule="integer",
    )


def remainder(rng: random.Random, difficulty: int) -> RuledProblem:
    """A remainder: of a number, a product or a power, never 0."""
    low = 10 ** min(difficulty, _MAX_DIGITS)
    modulus = rng.randint(3, 10 + 10 * difficulty)
    kind = rng.randrange(min(difficulty, 2) + 1)
    while True:
        a, b = rng.randrange(low, 10 * low), rng.randint(2, 9)
        if kind == 0:
            text, steps, value = str(a), [], a
        elif kind == 1:
            value = a * b
            text, steps = f"{a} * {b}", [f"{a}*{b}={value}"]
        else:
            a = a % 20 + 2
            text, value = f"{a}^{b}", a**b
            steps = [f"{text}={value}"]
        if result := value % modulus:
            break
    return RuledProblem(
        question=f"What is the remainder of {text} divided by {modulus}?",
        answer=str(result),
        work=" ".join([*steps, f"mod({value},{modulus})={result}"]),
        rule="integer",
    )


def base(rng: random.Random, difficulty: int) -> RuledProblem:
    """A number of `difficulty + 1` digits written in another base."""
    low = 10 ** min(difficulty, _MAX_DIGITS)
    number = rng.randrange(low, 10 * low)
    old, new = rng.sample((2, 3, 5, 8, 10, 16), 2)
    steps, left = [], number
    while left >= new:
        steps.append(f"mod({left},{new})={left % new}")
        left //= new
    return RuledProblem(
        question=f"Write {in_base(number, old)} (base {old}) in base {new}, in small letters.",
        answer=in_base(number, new),
        work=" ".join(steps),
        rule="text",
    )


def in_base(number: int, base: int) -> str:
    """The digits of a positive number in a base from 2 to 16."""
    digits = ""
    while number:
        number, digit = divmod(number, base)
        digits = _DIGITS[digit] + digits
    return digits


def _signed(number: int) -> str:
    return f"({number})" if number < 0 else str(number)
