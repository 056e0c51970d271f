"""Coding tasks from a file: rows of {prompt, entry_point, tests}, HumanEval's among them.

`tests` (or `test`) is code (a function `check(candidate)`, or statements that call the entry) or a
list of `{"args": [...], "expected": ...}` and `{"stdin": ..., "stdout": ...}`. `examples`, in the
same forms, are shown; `canonical_solution` is what the oracle answers.
"""

from __future__ import annotations

import ast
import doctest
import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import ConfigError, DataError
from ..jsonl import file_key, read_lines
from .grading.tests import CallTest, CodeTest, OutputTest, Test
from .problem import Problem

FIELDS = "'prompt', 'entry_point' and 'tests'"


_KINDS: dict[str, TypeAdapter[Any]] = {
    "args": TypeAdapter(CallTest),
    "stdin": TypeAdapter(OutputTest),
    "code": TypeAdapter(CodeTest),
}
"""Tests by the field that tells them apart."""


class CodeProblem(Problem):
    """A task of a file."""

    preamble: str
    """What the prompt itself defines, where it is code: it comes before the code of an answer."""


def read_rows(path: Path) -> tuple[CodeProblem, ...]:
    """The tasks of a JSONL file (also with .gz); an unchanged file is read once.

    Raises:
        ConfigError: There is no such file, or no row in it.
        DataError: A row lacks a field, or has one that cannot be used; names file, line and field.
    """
    return _read_rows(*file_key(path))


@lru_cache(maxsize=8)
def _read_rows(path: Path, changed_ns: int, size_bytes: int) -> tuple[CodeProblem, ...]:
    found = tuple(_problem(where, row) for where, row in read_lines(path))
    if not found:
        raise ConfigError(f"{path} holds no rows; each has {FIELDS}")
    return found


def _problem(where: str, row: Any) -> CodeProblem:
    prompt, entry = _text(where, row, "prompt"), _text(where, row, "entry_point", is_needed=False)
    if entry and not entry.isidentifier():
        raise DataError(f"{where}: field 'entry_point' must name a function, got {entry!r}")
    definition = _definition(prompt, entry)
    preamble = "" if definition is None else prompt
    field = "test" if "test" in row and "tests" not in row else "tests"
    if field not in row:
        raise DataError(f"{where}: no field 'tests' (has {', '.join(map(repr, row))})")
    solution = _text(where, row, "canonical_solution", is_needed=False)
    examples = (
        _tests(where, "examples", row["examples"], entry, preamble) if "examples" in row else []
    )
    return CodeProblem(
        family=str(row.get("task_id", "row")),
        question=prompt,
        entry=entry,
        # A solution that begins indented goes on where the prompt ends.
        solution=preamble + solution if solution.lstrip("\n")[:1].isspace() else solution,
        mistakes=[],
        visible=examples or _doctests(definition, preamble),
        hidden=_tests(where, field, row[field], entry, preamble),
        preamble=preamble,
    )


def _text(where: str, row: Any, field: str, *, is_needed: bool = True) -> str:
    if not isinstance(row, dict):
        raise DataError(f"{where}: a row must be an object with {FIELDS}, got {type(row).__name__}")
    value = row.get(field, None if is_needed else "")
    if not isinstance(value, str):
        has = ", ".join(map(repr, row))
        raise DataError(f"{where}: no text in field {field!r} (has {has}); need {FIELDS}")
    return value


def _tests(where: str, field: str, given: Any, entry: str, preamble: str) -> list[Test]:
    if isinstance(given, str):
        given = [{"code": given}]
    if not isinstance(given, list) or not given:
        raise DataError(
            f"{where}: field {field!r} must be code or a list of tests, got {given!r:.80}"
        )
    return [
        _test(f"{where}: field {field!r}, test {number}", test, entry, preamble)
        for number, test in enumerate(given)
    ]


def _test(place: str, given: Any, entry: str, preamble: str) -> Test:
    if isinstance(given, str):
        given = {"code": given}
    names = given.keys() if isinstance(given, dict) else ()
    kind = next((name for name in _KINDS if name in names), None)
    if kind is None:
        raise DataError(
            f"{place} must have 'args' and 'expected', 'stdin' and 'stdout', or be code; got "
            f"{json.dumps(given)[:80]}"
        )
    if kind != "stdin" and not entry:
        raise DataError(f"{place} calls a function, but the row has no 'entry_point'")
    try:
        test: Test = _KINDS[kind].validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{place}: {where}: {first['msg'].lower()}") from error
    if "code" in test:
        _must_parse(place, preamble + test["code"])
        test["preamble"] = preamble
    return test


def _must_parse(place: str, code: str) -> None:
    try:
        _parse(code)
    except SyntaxError as error:
        raise DataError(f"{place} is no Python: {error}") from error


def _definition(prompt: str, entry: str) -> ast.FunctionDef | None:
    """The function, where the prompt itself is code that defines it."""
    try:
        tree = _parse(prompt)
    except SyntaxError:
        return None
    found = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry)
    return next(found, None)


def _doctests(definition: ast.FunctionDef | None, preamble: str) -> list[Test]:
    """The examples that a docstring shows as a Python session."""
    found: list[Test] = []
    if definition is None:
        return found
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(definition) or "")
    except ValueError:  # a session that is none
        return found
    for example in examples:
        source, want = example.source.strip(), example.want.strip()
        code = f"assert ({source}) == ({want})"
        if definition.name in source and want:
            with suppress(SyntaxError):  # it shows no value
                _parse(code)
                found.append(CodeTest(code=code, preamble=preamble))
    return found


def _parse(code: str) -> ast.Module:
    """Parse code.

    Raises:
        SyntaxError: It is no Python, or nested too deep for the parser.
    """
    try:
        return ast.parse(code)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from error
