r"""The grammar of answers and of the calculator: text in, a small tree out, nothing evaluated.

    sum     = [sign] product (sign product)*
    product = factor (("*" | "/" | nothing) factor)*     nothing only before a name or a bracket
    factor  = sign factor | atom [("^" | "**") factor]
    atom    = number | name | function "(" sum ("," sum)* ")" | "(" sum ")" | \frac{sum}{sum} | ...

Simple LaTeX is read too: `\frac{}{}`, `\sqrt[n]{}`, `\pi`, `\cdot`, `\times`, `\left`, `\right`,
`\sin` and friends. Length, depth and the number of nodes are capped, so time is bounded.
"""

from __future__ import annotations

import re
import string
from fractions import Fraction
from typing import Any

from .answers import MAX_LENGTH, parse_number

Node = tuple[Any, ...]
"""("number", Fraction, or int in the calculator) | ("name", str) | ("call", function, Node, ...) |
("+" | "*" | "/" | "^", Node, Node)."""

MAX_DEPTH = 40
MAX_NODES = 300
_SYMBOLIC_FUNCTIONS = {
    "sqrt": 1, "sin": 1, "cos": 1, "tan": 1, "log": 1, "ln": 1, "exp": 1, "abs": 1,
}  # fmt: skip
_CALCULATOR_FUNCTIONS = {"sqrt": 1, "abs": 1, "floor": 1, "gcd": 2, "lcm": 2, "mod": 2}
"""How many arguments each function takes."""
_CONSTANTS = ("pi", "e", "i")
_UNCLEAR = re.compile(
    r"[Pp]i|[Ll]n|(?i:sin|cos|tan|log|exp|abs|sec|csc|cot|arg|max|min|mod|gcd|lcm|lim|det|sgn|inf|nan)"
)
"""In a name that is hardly variables in a row: `lnx`, `2pir`, `xln(x)`, `cot(x)`, `Sin(x)`."""


_THOUSANDS = r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?|"
_PATTERN = (
    r"(?:\s|\\[,;:! ]|\\left(?![A-Za-z])|\\right(?![A-Za-z]))*+"  # space, which is never given back
    r"(%s\d+(?:\.\d+)?|\\?[A-Za-z]+|\*\*|.)"
)
_TOKEN = re.compile(_PATTERN % _THOUSANDS, re.ASCII | re.DOTALL)
# There, a comma parts arguments.
_TOKEN_OF_CALCULATOR = re.compile(_PATTERN % "", re.ASCII | re.DOTALL)
_KINDS = {
    **dict.fromkeys(string.digits, "number"),
    **dict.fromkeys(string.ascii_letters, "name"),
    **dict.fromkeys("-+*/^(){}[],", "sign"),
}
"""By the first character of a token."""
_SYNONYMS = {"\\cdot": "*", "\\times": "*", "\\div": "/", "**": "^"}
_LATEX_FRACTIONS = ("\\frac", "\\dfrac", "\\tfrac")
_CLOSING = {"(": ")", "{": "}", "[": "]"}
_MINUS_ONE: Node = ("number", Fraction(-1))


class GrammarError(ValueError):
    """The text is no expression; says why, for the policy to read."""


def parse(text: str, *, is_for_calculator: bool = False) -> Node:
    """Read an expression; the calculator's have gcd, lcm, mod and floor, and no 1,000 for 1000.

    Raises:
        GrammarError: It is none, or too large.
    """
    if len(text) > MAX_LENGTH:
        raise GrammarError(f"longer than {MAX_LENGTH} characters")
    token = _TOKEN_OF_CALCULATOR if is_for_calculator else _TOKEN
    reader = _Reader(_tokens(text, token), is_for_calculator)
    node = reader.sum(0)
    reader.expect("")
    return node


def _tokens(text: str, pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    for token in pattern.findall(text):
        kind = _KINDS.get(token[0])
        if token in _SYNONYMS:
            kind, token = "sign", _SYNONYMS[token]
        elif kind is None:
            if token[0] != "\\" or len(token) == 1:
                raise GrammarError(f"cannot read {token!a}")
            kind = "name"
        tokens.append((kind, token))
    tokens.append(("end", ""))
    return tokens


class _Reader:
    """Recursive descent; `depth` counts brackets, signs and powers around."""

    def __init__(self, tokens: list[tuple[str, str]], is_for_calculator: bool) -> None:
        self.tokens, self.at, self.nodes = tokens, 0, 0
        self.is_for_calculator = is_for_calculator
        self.functions = _CALCULATOR_FUNCTIONS if is_for_calculator else _SYMBOLIC_FUNCTIONS

    def sum(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise GrammarError(f"nested deeper than {MAX_DEPTH}")
        node = self.product(depth)
        while self.token in ("+", "-"):
            sign = self.take()
            other = self.product(depth)
            node = self.node("+", node, negated(other) if sign == "-" else other)
        return node

    def product(self, depth: int) -> Node:
        node = self.factor(depth)
        while True:
            kind, token = self.tokens[self.at]
            if token in ("*", "/"):
                self.take()
                node = self.node(token, node, self.factor(depth))
            elif kind == "name" or token in ("(", "{"):  # 2x, 2(x+1); never "1 2" or "x2"
                node = self.node("*", node, self.power(depth))
            else:
                return node

    def factor(self, depth: int) -> Node:
        if self.token not in ("+", "-"):
            return self.power(depth)
        if depth > MAX_DEPTH:
            raise GrammarError(f"nested deeper than {MAX_DEPTH}")
        sign = self.take()
        node = self.factor(depth + 1)
        return negated(node) if sign == "-" else node

    def power(self, depth: int) -> Node:
        return self.raised(self.atom(depth), depth)

    def raised(self, base: Node, depth: int) -> Node:
        """The base to the power that follows it, if one does."""
        if self.token != "^":
            return base
        self.take()
        return self.node("^", base, self.factor(depth + 1))

    def atom(self, depth: int) -> Node:
        kind, token = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            if not token.isdigit():
                return self.node("number", parse_number(token))
            # Normal forms divide, and integers divided would be floats; the calculator knows both.
            is_whole = self.is_for_calculator
            return self.node("number", int(token) if is_whole else Fraction(int(token)))
        if token in ("(", "{"):
            return self.bracket(token, depth)
        if kind == "name":
            return self.named(self.take(), depth)
        raise GrammarError(f"expected a number, a name or a bracket, got {_shown(token)}")

    def named(self, token: str, depth: int) -> Node:
        """What begins with a name: a function, a constant, or variables in a row."""
        if token in _LATEX_FRACTIONS:
            above = self.bracket("{", depth)
            return self.node("/", above, self.bracket("{", depth))
        name = token.removeprefix("\\")
        if token == "\\sqrt" and self.token == "[":
            index = self.bracket("[", depth)
            return self.node("call", "root", self.radicand(depth), index)
        if token == "\\sqrt" and self.token not in ("(", "{") and not self.is_for_calculator:
            return self.node("call", "sqrt", self.radicand(depth))
        if name in self.functions:
            return self.call(name, token, depth)
        if name in _CONSTANTS and not self.is_for_calculator:
            return self.node("name", name)
        if self.is_for_calculator or token != name or len(name) > 3:
            raise GrammarError(f"unknown name {token!r}; functions: {', '.join(self.functions)}")
        if _UNCLEAR.search(name):
            raise GrammarError(
                f"unclear name {name!r}; write ln(x), 2*pi*r, or l*n*x for a product"
            )
        letters, last = name[:-1], name[-1]
        node = self.raised(self.node("name", last), depth)  # xy is x*y, and xy^2 is x*y^2
        for letter in reversed(letters):
            node = self.node("*", self.node("name", letter), node)
        return node

    def radicand(self, depth: int) -> Node:
        r"""In braces, or one character as in LaTeX, where `\sqrt12` is the root of 1: refused."""
        kind, token = self.tokens[self.at]
        if token != "\\pi" and (len(token) != 1 or kind not in ("number", "name")):
            return self.bracket("{", depth)
        self.take()  # `atom` would take a power, too, and `\sqrt x^2` is x
        value = Fraction(int(token)) if kind == "number" else token.removeprefix("\\")
        return self.node(kind, value)

    def call(self, name: str, token: str, depth: int) -> Node:
        opening = "{" if token != name and self.token == "{" else "("
        self.expect(opening)
        arguments = [self.sum(depth + 1)]
        while self.token == ",":
            self.take()
            arguments.append(self.sum(depth + 1))
        self.expect(_CLOSING[opening])
        if len(arguments) != self.functions[name]:
            raise GrammarError(
                f"{name} takes {self.functions[name]} arguments, got {len(arguments)}"
            )
        return self.node("call", name, *arguments)

    def bracket(self, opening: str, depth: int) -> Node:
        self.expect(opening)
        node = self.sum(depth + 1)
        self.expect(_CLOSING[opening])
        return node

    @property
    def token(self) -> str:
        return self.tokens[self.at][1]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def expect(self, token: str) -> None:
        if self.token != token:
            raise GrammarError(f"expected {_shown(token)}, got {_shown(self.token)}")
        self.at += 1

    def node(self, *parts: Any) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise GrammarError(f"more than {MAX_NODES} parts")
        return parts


def negated(node: Node) -> Node:
    """Minus the node; numbers stay numbers."""
    if node[0] == "number":
        return ("number", -node[1])
    return ("*", _MINUS_ONE, node)


def _shown(token: str) -> str:
    return repr(token) if token else "the end"
