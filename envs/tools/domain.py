"""`Domain`: a tool environment that is judged by its final state *and* the answer.

The goal is the state that the requests lead to when they are done one after another, and the
answer that is right then. Any way that leads there is right; no list of calls is ever matched.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from ..core import End, Reply
from .canonical import render_call
from .faults import FaultKind
from .tool import tool
from .toolbox import ToolEnv

Call = tuple[str, dict[str, Any]]
"""Name and arguments of a tool call, in the order of the signature."""
Answer = Annotated[str, Field(coerce_numbers_to_str=True)]

MAX_CALLS = 8
"""No generated task needs more calls than this, `done` included."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a task should end."""

    outcome: Any
    """What `outcome()` must return in the end."""
    answer: str | int


class Domain(ToolEnv):
    """A world with real state; subclasses write its tools, its tasks and where they should end."""

    system_prompt = ""
    max_turns = 16
    max_parallel: ClassVar[int | None] = MAX_CALLS
    free_tools: ClassVar[frozenset[str]] = frozenset({"done"})
    _goal: Goal | None
    _plan: list[Call] | None

    @abstractmethod
    def load(self, world: Any) -> None:
        """Set the world to what `dump` returned, or to the opening that the instance tells."""

    @abstractmethod
    def dump(self) -> Any:
        """The world as JSON that shares nothing with it."""

    @abstractmethod
    def opening(self) -> Any:
        """The world as the episode begins, for `load`."""

    @abstractmethod
    def find_goal(self) -> Goal:
        """Work out from the instance where the task should end; called once an episode."""

    @abstractmethod
    def find_plan(self) -> list[Call]:
        """One way to the goal: an expert's look-ups and deeds, in order, without `done`."""

    @abstractmethod
    def question(self) -> str:
        """What is asked for: the first observation."""

    def outcome(self) -> Any:
        """The part of the world that is judged; all of it by default."""
        return self.dump()

    def repair(self, goal: Goal) -> Call | None:
        """A deed that brings a world gone astray nearer to the goal, or None."""
        return None

    def blunders(self, rng: random.Random) -> list[Call]:
        """Plausible wrong calls."""
        return []

    @property
    def goal(self) -> Goal:
        """Where this episode should end."""
        if self._goal is None:
            self._goal = self.find_goal()
        return self._goal

    @property
    def plan(self) -> list[Call]:
        """One way to the goal of this episode."""
        if self._plan is None:
            self._plan = self.find_plan()
        return self._plan

    def start(self) -> str:
        """Open the world."""
        self._goal = self._plan = None
        self._tried: list[Call] = []
        self.load(self.opening())
        return self.question()

    def happened(self, name: str, arguments: dict[str, Any]) -> None:
        """Remember what was tried; the oracle tries nothing twice."""
        self._tried.append((name, arguments))

    @tool
    def done(self, answer: Answer) -> End:
        """Finish, with the answer that was asked for. Ends the task."""
        success = self.is_right(answer) and self.outcome() == self.goal.outcome
        text = "Thank you." if success else "That is not what was asked for."
        return End(text, success=success, reward=float(success))

    def is_right(self, answer: str) -> bool:
        """Is it the answer: the same integer, or the same text but for case and outer space?"""
        right = self.goal.answer
        if isinstance(right, int):  # one text a number: no -0, no 007
            return answer.strip().removeprefix("+") == str(right)
        return answer.strip().casefold() == right.casefold()

    def answer(self, text: str) -> Reply:
        """Text alone does nothing."""
        return self.fault(FaultKind.NO_CALL, "call a tool; to finish, call done(answer)")

    def oracle(self) -> str:
        """The plan's next call; then repairs, where something went astray; then the answer."""
        for call in self.plan:
            if call not in self._tried:
                return render_call(call[0], **call[1])
        mend = None if self.outcome() == self.goal.outcome else self.repair(self.goal)
        if mend is not None:
            return render_call(mend[0], **mend[1])
        return render_call("done", answer=str(self.goal.answer))

    def mistake(self, rng: random.Random) -> str:
        """A wrong call, or an answer too early or made up."""
        right = self.goal.answer
        guess = str(right + rng.randint(1, 9)) if isinstance(right, int) else "done"
        name, arguments = rng.choice([*self.blunders(rng), ("done", {"answer": guess})])
        return render_call(name, **arguments)

    def state(self) -> dict[str, Any]:
        """The world, and what was tried."""
        return {"world": self.dump(), "tried": [list(call) for call in self._tried]}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.load(state["world"])
        self._tried = [(name, arguments) for name, arguments in state["tried"]]
