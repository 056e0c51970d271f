"""`Math-v0`: a question, a few attempts, exact grading."""

from __future__ import annotations

import random
from typing import Any

from ..core import End, Reply
from ..env import TextEnv
from ..errors import ConfigError, unknown_name
from ..tasks import Instance
from .families.chains import chain
from .grading import RULES, is_right

FAMILIES = {"chain": chain}


class Math(TextEnv):
    """A problem, and a few attempts at its answer."""

    system_prompt = (
        "Solve the problem. You may show your work; end with #### and the answer alone. "
        "A wrong answer may be corrected once."
    )

    def __init__(self, *, family: str = "chain", attempts: int = 2, **kwargs: Any) -> None:
        if family not in FAMILIES:
            raise unknown_name("math family", family, FAMILIES)
        if attempts < 1:
            raise ConfigError(f"attempts must be at least 1, got {attempts}")
        self.family = family
        self.max_turns = attempts
        super().__init__(**kwargs)

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A problem of the family."""
        return dict(FAMILIES[self.family](rng, difficulty))

    def start(self) -> str:
        """Ask."""
        return str(self.instance["question"])

    def respond(self, action: str) -> Reply:
        """Right ends the episode; wrong does on the last attempt."""
        if is_right(action, self.instance["answer"], RULES["number"]):
            return End("right", success=True, reward=1.0)
        if self.turn == self.max_turns:
            return End("wrong", success=False)
        return Reply("wrong")

    def oracle(self) -> str:
        """The worked solution and the answer."""
        return f"{self.instance['work']} #### {self.instance['answer']}"

    def mistake(self, rng: random.Random) -> str:
        """A guess without work; sometimes a slip in the last step of it."""
        answer = int(self.instance["answer"])
        if rng.random() < 0.8:
            return f"#### {abs(answer + rng.randint(-20, 20))}"
        slip = max(0, answer + rng.choice([-10, -1, 1, 10]))
        return f"{self.instance['work'].rpartition('=')[0]}={slip} #### {slip}"
