"""What a coding task is, and how a family's draft of one becomes it.

A family writes words, a solution, edits that make it wrong, and a way to draw arguments. Tests are
drawn here: what they expect is what the solution returns, and every wrong version fails one that is
hidden. They are a function of the words, so tasks with the same words are the same task, and a
split by content never shows in training what is held out.

The solution is run in this process: it is a family's own text, never a policy's.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from string import Template
from textwrap import dedent
from typing import Any

from typing_extensions import TypedDict

from ..errors import EnvError
from ..seeding import derive_rng
from .grading.tests import CallTest, OutputTest, Test
from .grading.values import is_same

NUM_VISIBLE, NUM_HIDDEN = 2, 6
_MAX_DRAWS = 120


class TooFewTestsError(EnvError):
    """A draft whose arguments tell too little apart; one in a thousand, so another is drawn."""


class Problem(TypedDict):
    """One drawn task."""

    family: str
    question: str
    entry: str
    """Name of the function; empty for a program."""
    solution: str
    mistakes: list[str]
    """Near misses: each fails a hidden test."""
    visible: list[Test]
    hidden: list[Test]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a family makes up."""

    task: str
    """What is to be written, in words."""
    solution: str
    mistakes: tuple[str, ...]
    """The solution with an edit that should make it wrong."""
    arguments: Callable[[random.Random], list[Any]]
    """Draws the arguments of a test; for a program, one text: its input."""
    entry: str = "f"
    """Empty for a program."""
    tests_of: str = ""
    """The words that its tests are drawn by, where they are not those of the task."""


Family = Callable[[random.Random, int], Draft]
"""Drafts a task at a difficulty of at least 1; every number it needs comes from the RNG."""


def code(template: str, **names: Any) -> str:
    """A code template without its indentation, each `$name` filled in."""
    return Template(dedent(template).strip() + "\n").substitute(names)


def edits(solution: str, *changes: tuple[str, str]) -> tuple[str, ...]:
    """The solution with each change made, one at a time, where it first applies.

    Raises:
        ValueError: A change applies nowhere.
    """
    changed = []
    for old, new in changes:
        if old not in solution:
            raise ValueError(f"nothing to change: no {old!r} in {solution!r}")
        changed.append(solution.replace(old, new, 1))
    return tuple(changed)


def finish(family: str, draft: Draft) -> Problem:
    """Draw the tests of a draft, and keep the mistakes that fail one of the hidden.

    Raises:
        TooFewTestsError: The draft is of no use.
    """
    visible, hidden, mistakes = _draw_tests(
        draft, derive_rng("coding", family, draft.tests_of or draft.task)
    )
    return Problem(
        family=family,
        question="\n".join([draft.task, *map(show_example, [draft.entry] * len(visible), visible)]),
        entry=draft.entry,
        solution=draft.solution,
        mistakes=mistakes,
        visible=visible,
        hidden=hidden,
    )


def show_example(entry: str, test: Test) -> str:
    """A test as the words of a task show it."""
    if "args" in test:
        return f"{show_call(entry, test)} == {test['expected']!r}"
    assert "stdin" in test
    return f"Input:\n{test['stdin'].rstrip()}\nOutput:\n{test['stdout'].rstrip()}"


def show_call(entry: str, test: CallTest) -> str:
    """The call that a test makes."""
    return f"{entry}({', '.join(map(repr, test['args']))})"


def _draw_tests(draft: Draft, rng: random.Random) -> tuple[list[Test], list[Test], list[str]]:
    """Visible tests, hidden ones with other arguments, and the mistakes that the hidden catch.

    What tells a mistake apart may be a single input: it is hidden, and only spare tests are shown.
    """
    visible: list[Test] = []
    hidden: list[Test] = []
    alive, caught = list(dict.fromkeys(draft.mistakes)), []
    is_constant = True
    for test in _different_tests(draft, rng):
        found = [m for m in alive if not _agrees(m, draft.entry, test)]
        differs = bool(hidden) and not is_same(_wanted(test), _wanted(hidden[0]))
        # Beyond the number that every task has, only tests that find something new.
        if len(hidden) < NUM_HIDDEN or found or (is_constant and differs):
            hidden.append(test)
            caught += found
            alive = [m for m in alive if m not in found]
            is_constant = is_constant and not differs
        elif len(visible) < NUM_VISIBLE:
            visible.append(test)
        elif not alive and not is_constant:
            break
    if is_constant or len(hidden) < NUM_HIDDEN or len(visible) < NUM_VISIBLE:
        raise TooFewTestsError(f"too few different tests of {draft.task!r}")
    return visible, hidden, caught


def _different_tests(draft: Draft, rng: random.Random) -> Iterator[Test]:
    """Tests, no two with the same arguments."""
    seen: set[str] = set()
    for _ in range(_MAX_DRAWS):
        arguments = draft.arguments(rng)
        key = json.dumps(arguments)
        if key not in seen:
            seen.add(key)
            yield _as_test(draft.entry, arguments, _outcome(draft.solution, draft.entry, arguments))


def _as_test(entry: str, arguments: list[Any], wanted: Any) -> Test:
    if entry:
        return CallTest(args=arguments, expected=wanted)
    return OutputTest(stdin=arguments[0], stdout=wanted)


def _wanted(test: Test) -> Any:
    return test["expected"] if "args" in test else test.get("stdout")


def _agrees(solution: str, entry: str, test: Test) -> bool:
    arguments = test["args"] if "args" in test else [test.get("stdin")]
    try:
        return is_same(_outcome(solution, entry, arguments), _wanted(test))
    except Exception:  # a mistake may raise whatever it likes: then it is caught
        return False


def _outcome(solution: str, entry: str, arguments: list[Any]) -> Any:
    """What a family's code returns or prints."""
    if entry:
        return _function(solution, entry)(*copy.deepcopy(arguments))
    lines: Iterator[str] = iter(arguments[0].splitlines())
    printed = io.StringIO()
    names = {"input": lambda: next(lines), "__name__": "__main__"}
    with contextlib.redirect_stdout(printed):
        exec(_compiled(solution), names)
    return printed.getvalue()


@lru_cache(maxsize=256)
def _function(solution: str, entry: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(_compiled(solution), names)
    found: Callable[..., Any] = names[entry]
    return found


@lru_cache(maxsize=256)
def _compiled(solution: str) -> Any:
    return compile(solution, "<solution>", "exec")
