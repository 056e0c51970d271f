"""`Workbench`: what every coding environment does, wherever its tasks come from.

The agent may run code and try it on the examples of the task; its answer is the code that hidden
tests are run on. All of that code runs in a sandbox; what it is worth is decided here.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from pydantic import ValidationError

from ..core import End, Message, Reply
from ..errors import ConfigError, unknown_name
from ..rewards.base import Sample
from ..rewards.readability import Readability
from ..rewards.rubric import Rubric
from ..rewards.tests_fraction import TestsFraction
from ..sandbox.core import Limits, Program
from ..sandbox.options import SandboxOptions
from ..tools.formats import render_call
from ..tools.tool import ToolError, tool
from ..tools.toolbox import ToolEnv
from .answers import MAX_CHARACTERS, code_of
from .cheats import cheat
from .feedback import tell_grade, tell_run
from .grading.boxes import Boxes, shared_boxes
from .grading.grade import grade, run_program
from .grading.tests import Grade, Submission
from .rewards import Passed

REWARDS = ("pass", "fraction")
VISIBLE_ONLY = "visible_only"
"""Counted where code passes all visible tests and not the hidden ones: the pass gap."""

_TRIED = ("44_exit_at_import", "45_os_exit", "50_int_subclass")
"""Cheats that the audit tries on every task."""


class Workbench(ToolEnv):
    """Write the Python code that is asked for."""

    system_prompt = (
        "Write the Python code that is asked for. You may try code first: test runs it on the "
        "examples, run runs it as it is. Then answer with the code, in a ```python fence if you "
        "say anything else; hidden tests decide."
    )
    max_turns = 5

    def __init__(
        self,
        *,
        reward: str = "pass",
        readability: float = 0.0,
        cpu_s: float = 2.0,
        sandbox: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Choose how code is graded and where it runs.

        Args:
            reward: `pass` pays 1 for code that passes all hidden tests and -1 for any other;
                `fraction` pays 1, or half of the fraction that passes.
            readability: What clean code earns on top, if it passes; 0 asks no linter.
            cpu_s: CPU-seconds that a run may take.
            sandbox: Options of the sandbox, such as `{"tier": "docker", "slots": 4}`; see
                `SandboxOptions`. All environments of a process with equal options share one.
            options: Those of `ToolEnv`.

        Raises:
            ConfigError: A value that cannot be.
        """
        if reward not in REWARDS:
            raise unknown_name("reward", str(reward), REWARDS)
        if not 0.0 <= readability <= 1.0:
            raise ConfigError(f"readability must be from 0 to 1, got {readability!r}")
        if not 0.0 < cpu_s <= 600.0:
            raise ConfigError(f"cpu_s must be above 0 and at most 600, got {cpu_s!r}")
        parts: dict[Any, float] = {Passed() if reward == "pass" else TestsFraction(): 1.0}
        if readability:
            parts[Readability()] = readability
        self.rubric = Rubric(parts)
        self.reward_range = self.rubric.range
        self.reward_floor = -1.0 if reward == "pass" else 0.5
        self.is_whole = reward == "fraction"
        self.limits = Limits(cpu_s=cpu_s, wall_s=max(10.0, 5 * cpu_s))
        self.sandbox = _sandbox_options(sandbox or {})
        self._signs: Counter[str] = Counter()
        super().__init__(**options)

    @property
    def boxes(self) -> Boxes:
        """The sandboxes of this process; opened with the first run."""
        return shared_boxes(self.sandbox)

    def start(self) -> str:
        """Ask."""
        return str(self.instance["question"])

    @tool
    def test(self, code: str) -> str:
        """Run code on the examples of the task; tells which of them fail, and how."""
        tests = self.instance["visible"]
        if not tests:
            raise ToolError("this task has no examples to run; use run")
        graded = self._grade(self._code(code), tests, whole=True)
        self._signs.update(_signs(graded))
        return tell_grade(graded, tests, self.instance["entry"])

    @tool
    def run(self, code: str, stdin: str = "") -> str:
        """Run code as a program; tells what it prints."""
        if len(stdin) > MAX_CHARACTERS:
            raise ToolError(f"stdin is longer than {MAX_CHARACTERS:,} characters")
        program = Program(self._code(code), stdin=stdin)
        result = run_program(self.boxes.candidates, program, self.limits)
        self._signs.update(f"tamper/{flag}" for flag in result.flags)
        return tell_run(result)

    def answer(self, text: str) -> Reply:
        """Run the hidden tests."""
        code, hidden = code_of(text), self.instance["hidden"]
        graded = Grade((), len(hidden))
        if code is not None:
            graded = self._grade(self._whole(code), hidden, whole=self.is_whole)
        signs = Counter(_signs(graded))
        visible = self.instance["visible"]
        if code is not None and not graded.passed and visible:
            signs[VISIBLE_ONLY] += self._grade(self._whole(code), visible, whole=False).passed
        said = "passed" if graded.passed else "failed"
        return self._end(f"The hidden tests: {said}.", graded, code or "", +signs)

    def compose(self, results: list[Message]) -> Reply:
        """What the tools said; who never answers has failed."""
        reply, signs = super().compose(results), self._signs
        self._signs = Counter()
        if self.turn < self.max_turns:
            return Reply(reply.text, messages=reply.messages, faults=signs)
        text = f"{reply.text}\nNo turns are left, and no code was given."
        return self._end(text, Grade((), len(self.instance["hidden"])), "", signs)

    def oracle(self) -> str:
        """Try the solution on the examples, then give it."""
        solution = str(self.instance["solution"])
        if self.turn == 0 and self.max_turns > 1 and self.instance["visible"]:
            return render_call("test", code=solution)
        return solution

    def mistake(self, rng: random.Random) -> str | None:
        """A near miss: tried, or given untried."""
        mistakes = self.instance["mistakes"]
        if not mistakes:
            return None
        wrong = str(rng.choice(mistakes))
        is_tried = self.turn + 1 < self.max_turns and rng.random() < 0.5
        return render_call("test", code=wrong) if is_tried else wrong

    def near_misses(self, answer: str) -> list[str]:
        """Edits that break the solution, and code that cheats instead."""
        entry = self.instance["entry"]
        return [*self.instance["mistakes"], *(cheat(name, entry) for name in _TRIED)]

    def state(self) -> dict[str, Any]:
        """Nothing: code leaves nothing behind, all there is to know was said."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._signs = Counter()

    def _code(self, text: str) -> str:
        """The code of an argument, as it is run.

        Raises:
            ToolError: It is too long.
        """
        code = code_of(text)
        if code is None:
            raise ToolError(f"the code is longer than {MAX_CHARACTERS:,} characters")
        return self._whole(code)

    def _whole(self, code: str) -> str:
        """The code with what the task's own text defines before it."""
        return str(self.instance.get("preamble", "")) + code

    def _grade(self, code: str, tests: list[Any], *, whole: bool) -> Grade:
        submission = Submission(code, self.instance["entry"] or None)
        return grade(self.boxes, self.limits, submission, tests, whole=whole)

    def _end(self, text: str, graded: Grade, code: str, signs: Counter[str]) -> End:
        facts = {
            "passed": graded.passed,
            "tests_passed": graded.num_passed,
            "tests_total": graded.num_tests,
        }
        parts = self.rubric(Sample(code, info=facts))
        return End(text, parts=parts, faults=dict(signs), success=graded.passed)


def _sandbox_options(given: dict[str, Any]) -> SandboxOptions:
    try:
        return SandboxOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(["sandbox", *map(str, first["loc"])])
        known = ", ".join(SandboxOptions.model_fields)
        raise ConfigError(
            f"{where} = {first['input']!r}: {first['msg'].lower()}; options: {known}"
        ) from error


def _signs(graded: Grade) -> dict[str, int]:
    return {f"tamper/{flag}": count for flag, count in graded.flags.items()}
