"""Worlds that misbehave, for `test_isolation.py` and the driver's tests: each in its second turn.

Another process imports them, so they are in a file of their own.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from typing import Any

import turnhalle as th
from turnhalle.envs.errors import JudgeError


class Talk(th.TextEnv):
    """Three turns of small talk."""

    max_turns = 3

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        self.said: list[str] = []
        return f"task {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        self.said.append(action)
        if self.turn == 2:
            self.misbehave(self.task.index % 16)
        return th.Reply(f"{self.said} {self.rng.random()}", reward=0.5)

    def oracle(self) -> str:
        return f"word {self.turn}"

    def misbehave(self, kind: int) -> None:
        """Nothing odd here."""


class Odd(Talk):
    """The same, and some of them break."""

    def misbehave(self, kind: int) -> None:
        if kind == 1:
            re.match(r"(a+)+$", "a" * 40 + "b")  # holds the interpreter's lock for years
        elif kind == 2:
            os._exit(3)
        elif kind == 3:
            self.hoard = [bytearray(2**20) for _ in iter(int, 1)]
        elif kind == 4:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif kind == 5:
            raise ValueError("out of order")
        elif kind == 6:
            raise JudgeError("no verdict")
        elif kind == 7:
            sys.exit("enough")


class Slow(Talk):
    """Never answers."""

    def respond(self, action: str) -> th.Reply:
        time.sleep(1000)
        raise AssertionError


class Remembering(Talk):
    """Its state is its own affair."""

    def state(self) -> dict[str, Any]:
        return {"said": self.said}

    def restore(self, state: dict[str, Any]) -> None:
        self.said = list(state["said"])


class Awaited(Talk):
    """Is awaited."""

    async def step_async(self, action: str) -> Any:
        return self.step(f"{action}!")
