"""`MathProblems-v0`: eighteen procedural families, alone, with a calculator, or in k attempts."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import End, Reply
from ..errors import ConfigError, chosen, unknown_name
from ..tasks import Instance
from ..tools.formats import render_call
from ..tools.tool import Tool
from ..tools.toolbox import ToolEnv
from .calculator import MAX_CALLS, calculate
from .families import FAMILIES
from .grading import RULES, Verdict, judge

_ASK = "Solve the problem. You may show your work; end with #### and the answer alone."
_MODES = {
    "single": (_ASK, 1),
    "calculator": (f"{_ASK} You may use the calculator first.", 8),
    "attempts": (f"{_ASK} You are told whether it is right, wrong, too high or too low.", 3),
}
"""System prompt and number of turns by mode."""
_MAX_ATTEMPTS = 4
"""More would let a policy bisect by `too high` and `too low` without any work."""
RIGHT = End("right", success=True, reward=1.0)
WRONG = End("wrong", success=False)
"""Made once: to build a frozen dataclass takes longer than to grade an answer."""


class MathProblems(ToolEnv):
    """A problem of one of many families, and its exact answer."""

    functions, max_parallel = (calculate,), MAX_CALLS

    def __init__(
        self, *, families: Sequence[str] | None = None, mode: str = "single", **kwargs: Any
    ) -> None:
        """Choose families and mode; in mode `attempts`, `max_turns` is their number.

        Raises:
            UnknownNameError: No such family or mode.
            ConfigError: No family at all, more than one turn where one answer is asked, or options
                of tools where there are none.
        """
        self.families = chosen("math family", families, FAMILIES) or list(FAMILIES)
        if mode not in _MODES:
            raise unknown_name("mode", str(mode), _MODES)
        self.mode = mode
        self.system_prompt, self.max_turns = _MODES[mode]
        super().__init__(**kwargs)
        if mode != "calculator" and (self.max_calls is not None or self.fault_cost):
            raise ConfigError(f"mode {mode!r} has no tools for max_calls and fault_cost to limit")
        if mode == "single" and self.max_turns > 1:
            raise ConfigError("mode 'single' has one turn; more need mode='attempts'")
        if mode == "attempts" and self.max_turns > _MAX_ATTEMPTS:
            raise ConfigError(
                f"mode 'attempts' has at most {_MAX_ATTEMPTS} turns, got {self.max_turns}: with "
                "more, guessing by too high and too low solves many problems"
            )

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A problem of a random family."""
        family = self.families[rng.randrange(len(self.families))]
        return {"family": family, **FAMILIES[family](rng, difficulty)}

    def content(self, instance: Instance) -> Instance:
        """The problem as `Math-v0` has it: a sum is in one split, whichever of the two asks it."""
        question = instance["question"].removeprefix("Compute ").removesuffix(".")
        return {"question": question, "answer": instance["answer"], "work": instance["work"]}

    def start(self) -> str:
        """Ask."""
        return str(self.instance["question"])

    def toolbox(self) -> Mapping[str, Tool]:
        """The calculator, in its mode."""
        return self._tools if self.mode == "calculator" else {}

    def answer(self, text: str) -> Reply:
        """Judge: right ends the episode, anything else does on the last attempt."""
        verdict = judge(text, self.instance["answer"], RULES[self.instance["rule"]])
        if verdict is Verdict.RIGHT:
            return RIGHT
        if self.mode != "attempts":
            return WRONG
        said = "wrong: no answer found" if verdict is Verdict.UNREADABLE else str(verdict)
        return End(said, success=False) if self.turn == self.max_turns else Reply(said)

    def oracle(self) -> str:
        """What there is to compute where there is a calculator, then work and answer."""
        work = self.instance["work"]
        if self.mode == "calculator" and self.turn == 0 and work and self.max_turns > 1:
            steps = [step.partition("=")[0] for step in work.split()[:MAX_CALLS]]
            return "\n".join(render_call("calculate", expression=step) for step in steps)
        return f"{work} #### {self.instance['answer']}".lstrip()

    def mistake(self, rng: random.Random) -> str | None:
        """A slip in a number of the answer; what the oracle did elsewhere where it has none."""
        answer = self.instance["answer"]
        if not answer.lstrip("-").isdigit():
            return None
        return f"#### {int(answer) + rng.choice((-10, -1, 1, 10))}"
