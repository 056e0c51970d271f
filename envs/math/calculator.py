"""The calculator: one tool, exact, with a grammar of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..tools.tool import ToolError
from . import rationals
from .grammar import GrammarError

MAX_CALLS = 16
"""Calls in one turn; more are refused."""

Expression = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A lone number needs no quotes."""


def calculate(expression: Expression) -> str:
    """The exact value of an expression of numbers: + - * / ^ ( ), and
    abs(a), floor(a), gcd(a,b), lcm(a,b), mod(a,b), sqrt(a)
    """  # noqa: D205, D415 policies read it, as they always did
    try:
        return str(rationals.calculate(expression))
    except GrammarError as error:
        raise ToolError(str(error)) from error
