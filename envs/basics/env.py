"""`Basics-v0`: one short exercise, two attempts. What every other environment takes for granted."""

from __future__ import annotations

import random

from ..core import End, Reply
from ..env import TextEnv
from ..tasks import Instance
from .exercises import EXERCISES


class Basics(TextEnv):
    """Copy, reverse, sort, compare, count, look up."""

    system_prompt = "Do the exercise. Answer with the result alone. You have two attempts."
    max_turns = 2
    success_floor = 0.2  # the last word shown is the answer of some exercises
    answer_in_sight = True  # to copy and to compare is to say what is shown

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """An exercise of a random kind."""
        kind = rng.choice(list(EXERCISES))
        question, answer = EXERCISES[kind](rng, difficulty)
        return {"kind": kind, "question": question, "answer": answer}

    def start(self) -> str:
        """Ask."""
        return str(self.instance["question"])

    def respond(self, action: str) -> Reply:
        """Right or wrong, to the letter."""
        if action.strip() == self.instance["answer"]:
            return End("right", success=True, reward=1.0)
        return Reply("wrong")

    def oracle(self) -> str:
        """The answer."""
        return str(self.instance["answer"])
