"""Algebra: equations, systems, polynomials, roots, sequences."""

from __future__ import annotations

import random

from ..problem import RuledProblem


def linear(rng: random.Random, difficulty: int) -> RuledProblem:
    """An equation in x: `a*x + b = c`; from difficulty 2 on x is on both sides."""
    limit = 9 * difficulty
    a, x = rng.randint(2, 4 + limit), _nonzero(rng, limit)
    b, other = _nonzero(rng, limit), 0
    if difficulty > 1:
        other = rng.randint(1, a - 1)
    right = (a - other) * x + b
    steps = [f"{right}-({b})={right - b}"]
    if other:
        steps.append(f"{a}-{other}={a - other}")
    steps.append(f"({right - b})/{a - other}={x}")
    rhs = _polynomial(((other, "x"), (right, ""))) if other else str(right)
    return RuledProblem(
        question=f"Solve for x: {_polynomial(((a, 'x'), (b, '')))} = {rhs}",
        answer=str(x),
        work=" ".join(steps),
        rule="integer",
    )


def system(rng: random.Random, difficulty: int) -> RuledProblem:
    """Two equations in x and y with one solution in integers."""
    limit = 3 + 2 * difficulty
    x, y = _nonzero(rng, 3 * limit), _nonzero(rng, 3 * limit)
    while True:
        a, b, c, d = (_nonzero(rng, limit) for _ in range(4))
        if determinant := a * d - b * c:
            break
    first, second = a * x + b * y, c * x + d * y
    steps = [
        f"{a}*({d})-({b})*({c})={determinant}",
        f"(({first})*({d})-({b})*({second}))/({determinant})={x}",
        f"({a}*({second})-({first})*({c}))/({determinant})={y}",
    ]
    left = _polynomial(((a, "x"), (b, "y"))), _polynomial(((c, "x"), (d, "y")))
    return RuledProblem(
        question=f"Solve {left[0]} = {first} and {left[1]} = {second}. Answer as: x, y",
        answer=f"{x}, {y}",
        work=" ".join(steps),
        rule="list",
    )


def expand(rng: random.Random, difficulty: int) -> RuledProblem:
    """A product of two brackets in x; from difficulty 3 on, of three."""
    limit = 9 + 3 * difficulty
    factors = [(_nonzero(rng, 2 * difficulty), _nonzero(rng, limit)) for _ in range(2)]
    if difficulty > 2:
        factors.append((1, _nonzero(rng, limit)))
    product = [1]
    for a, b in factors:  # coefficients, the constant first
        product = [
            (product[i - 1] * a if i else 0) + (product[i] * b if i < len(product) else 0)
            for i in range(len(product) + 1)
        ]
    brackets = "".join(f"({_polynomial(((a, 'x'), (b, '')))})" for a, b in factors)
    top = len(product) - 1
    answer = _polynomial([(product[i], _power(i)) for i in range(top, -1, -1)])
    (a, b), (c, d) = factors[:2]
    steps = [f"{a}*({c})={a * c}", f"{a}*({d})+({b})*({c})={a * d + b * c}", f"{b}*({d})={b * d}"]
    return RuledProblem(
        question=f"Multiply out and collect: {brackets}",
        answer=answer,
        work=" ".join(steps),
        rule="expanded",
    )


def derivative(rng: random.Random, difficulty: int) -> RuledProblem:
    """The derivative of a polynomial of degree `difficulty + 1`."""
    degree = min(difficulty + 1, 40)
    terms = [(_nonzero(rng, 9), degree)]
    terms += [(rng.randint(-9, 9), exponent) for exponent in range(degree - 1, -1, -1)]
    text = _polynomial([(a, _power(n)) for a, n in terms])
    slopes = [(a * n, n - 1) for a, n in terms if n]
    return RuledProblem(
        question=f"Differentiate with respect to x: {text}",
        answer=_polynomial([(a, _power(n)) for a, n in slopes]),
        work=" ".join(f"{a}*{n}={a * n}" for a, n in terms if n and a),
        rule="expanded",
    )


def root(rng: random.Random, difficulty: int) -> RuledProblem:
    """A sum of square roots, to be simplified to one."""
    free = rng.choice((2, 3, 5, 6, 7, 10, 11, 13, 14, 15))
    factors = [rng.randint(2, 5 + 3 * difficulty) for _ in range(min(difficulty, 20) + 1)]
    text, total, steps = f"sqrt({factors[0] ** 2 * free})", factors[0], []
    for factor in factors[1:]:
        sign = "+-"[rng.randrange(2)] if total > factor else "+"
        text += f" {sign} sqrt({factor**2 * free})"
        steps.append(f"{total}{sign}{factor}={total + factor if sign == '+' else total - factor}")
        total = total + factor if sign == "+" else total - factor
    answer = f"sqrt({free})" if total == 1 else f"{total}*sqrt({free})"
    return RuledProblem(
        question=f"Simplify to one square root of a square-free number: {text}",
        answer=answer,
        work=" ".join(steps),
        rule="expanded",
    )


def sequence(rng: random.Random, difficulty: int) -> RuledProblem:
    """The next number: steps that stay, grow, multiply, or add the two before."""
    limit = 20 + 10 * difficulty
    kind = rng.randrange(min(difficulty + 1, 4))
    a, b = rng.randint(1, limit), rng.randint(2, limit)
    terms = [a, a + b] if kind < 3 else [a, b]
    growth = rng.randint(1, limit)
    if kind == 1:
        ratio = rng.randint(2, 4 + difficulty)
        terms = [a * ratio**n for n in range(6)]
    while len(terms) < 6:
        if kind == 0:
            terms.append(terms[-1] + b)
        elif kind == 2:
            terms.append(2 * terms[-1] - terms[-2] + growth)
        else:
            terms.append(terms[-1] + terms[-2])
    result, last, before = terms.pop(), terms[-2], terms[-3]
    if kind == 1:
        work = f"{terms[1]}/{terms[0]}={ratio} {terms[-1]}*{ratio}={result}"
    elif kind == 3:
        work = f"{terms[-2]}+{terms[-1]}={result}"
    else:
        step, earlier = terms[-1] - last, last - before
        work = f"{last}-{before}={earlier} {terms[-1]}-{last}={step} "
        work += f"{step}-{earlier}={step - earlier} "
        work += f"{terms[-1]}+{step}+{step - earlier}={result}"
    return RuledProblem(
        question=f"What comes next: {', '.join(map(str, terms))}, ...?",
        answer=str(result),
        work=work,
        rule="integer",
    )


def _nonzero(rng: random.Random, limit: int) -> int:
    number = rng.randint(1, limit)
    return number if rng.random() < 0.5 else -number


def _power(exponent: int) -> str:
    return "" if not exponent else "x" if exponent == 1 else f"x^{exponent}"


def _polynomial(terms: list[tuple[int, str]] | tuple[tuple[int, str], ...]) -> str:
    text = ""
    for coefficient, name in terms:
        if coefficient:
            size = "" if abs(coefficient) == 1 and name else str(abs(coefficient))
            sign = " - " if coefficient < 0 else " + "
            text += (sign if text else "-" * (coefficient < 0)) + size + name
    return text
