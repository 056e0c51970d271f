"""`Math-v0` at default options is what the built-in policy was trained on: it never changes."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import turnhalle as th

DIGEST = "2e03543cacc618cc878a7265a1131c0d"
SPLITS = ("train", "eval", "test")


def transcript(task: int) -> list[Any]:
    """Everything that is said in an episode, mistakes in the first turn of most."""
    env = th.make("math", difficulty=1 + task % 3) if task % 2 else th.make("math")
    observation, info = env.reset(options={"task": task, "split": SPLITS[task % 3]})
    rng = random.Random(task)
    said: list[Any] = [observation, [m.model_dump() for m in info["messages"]]]
    while not env.is_over:
        action = env.oracle() if env.turn or task % 5 == 0 else env.mistake(rng)
        assert action is not None
        observation, reward, ended, cut, info = env.step(action)
        messages = [m.model_dump() for m in info["messages"]]
        said.append([action, observation, reward, ended, cut, info.get("success"), messages])
    return said


def test_two_hundred_episodes_are_those_of_the_first_release() -> None:
    digest = hashlib.blake2b(digest_size=16)
    for task in range(200):
        digest.update(json.dumps(transcript(task)).encode())
    assert digest.hexdigest() == DIGEST
