"""Does a seed mean the same episode everywhere, and can any moment of it be taken again?"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import random
import subprocess
import sys

import numpy as np

from ..registry import EnvFactory, resolve
from .core import FaultError, Subject, UncheckedError
from .play import Episode, begin, by_oracle, play, step

_FRESH_TASKS = 5
_TIMEOUT_S = 120


def _twice(subject: Subject) -> str:
    """The same task gives the same episode, alone and interleaved with another."""
    tasks = 0
    fresh = 1 if subject.env().metadata["snapshot"] == "none" else _FRESH_TASKS
    for index in subject.many(30):
        # The first in new environments, whatever it costs, against those that may have played.
        alone = _played_anew(subject, index) if tasks < fresh else subject.play(index, by_oracle)
        if subject.play(index, by_oracle).transcript() != alone.transcript():
            raise FaultError(f"task {index} gave two different episodes")
        if _interleaved(subject, index, alone).transcript() != alone.transcript():
            raise FaultError(f"task {index} is another beside a second environment")
        tasks += 1
    return f"{tasks} tasks give the same episode twice, and beside another environment"


def _played_anew(subject: Subject, index: int) -> Episode:
    env = subject.env()
    try:
        return play(env, index, by_oracle)
    finally:
        env.close()


def _interleaved(subject: Subject, index: int, alone: Episode) -> Episode:
    with subject.lent() as twin, subject.lent() as other:
        episode, beside = begin(twin, index), begin(other, index + 1)
        for action in alone.actions:
            if not other.is_over:
                step(other, beside, by_oracle(other, beside))
            step(twin, episode, action)
        return episode


def _processes(subject: Subject) -> str:
    """Two fresh processes with different hash seeds play the same episodes."""
    task = json.dumps({"name": _address(subject.factory), "kwargs": subject.factory.kwargs})
    printed = set()
    with _fresh_process("0") as one, _fresh_process("1") as other:
        for process in (one, other):
            try:
                said, error = process.communicate(task, timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                one.kill()
                other.kill()
                raise FaultError(f"takes more than {_TIMEOUT_S} s in a fresh process") from None
            if process.returncode:
                other.kill()
                raise FaultError(f"fails in a fresh process: {error.strip().splitlines()[-1:]}")
            printed.add(said)
    if len(printed) != 1:
        raise FaultError("the same tasks differ between processes; does it iterate over a set?")
    return f"{_FRESH_TASKS} tasks are the same in fresh processes with different hash seeds"


def _fresh_process(hash_seed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from turnhalle.envs.audit.determinism import main; main()"],
        env={
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    """What the fresh processes run: print the episodes of the environment named on stdin."""
    given = json.load(sys.stdin)
    env = resolve(given["name"], **given["kwargs"])()
    print([play(env, index, by_oracle).transcript() for index in range(_FRESH_TASKS)])
    env.close()


def _address(factory: EnvFactory) -> str:
    """A name under which another process finds the class."""
    cls = factory.cls
    if "<locals>" in cls.__qualname__:
        raise UncheckedError("the class is local to a function, no other process can find it")
    module = sys.modules[cls.__module__]
    is_importable = not hasattr(module, "__turnhalle_name__")
    if is_importable and importlib.util.find_spec(cls.__module__.partition(".")[0]):
        return f"{cls.__module__}:{cls.__qualname__}"
    return f"{inspect.getfile(cls)}:{cls.__qualname__}"


def _global_rng(subject: Subject) -> str:
    """No global random generator is read or reseeded."""
    before = random.getstate(), str(np.random.get_state())
    for index in subject.many(20):
        subject.play(index, by_oracle)
    if (random.getstate(), str(np.random.get_state())) != before:
        raise FaultError("it touches a global random generator; draw from `rng` or `self.rng`")
    return "the global generators of random and numpy are untouched"


def _fork(subject: Subject) -> str:
    """A fork goes on exactly as its origin does."""
    if subject.env().metadata["snapshot"] == "none":
        raise UncheckedError("declares that it cannot be snapshot")
    forks = 0
    for index in subject.many(30):
        env = subject.env()
        episode = begin(env, index)
        while not env.is_over:
            twin, action = env.fork(), by_oracle(env, episode)
            if env.step(action) != twin.step(action) or env.get_state() != twin.get_state():
                raise FaultError(f"task {index}, turn {env.turn}: the fork went another way")
            forks += 1
    return f"{forks} forks went on like their origin"


def _state(subject: Subject) -> str:
    """A snapshot is JSON, and a fresh environment goes on from it as a replay would."""
    if subject.env().metadata["snapshot"] == "none":
        raise UncheckedError("declares that it cannot be snapshot")
    states = 0
    for index in subject.many(30):
        whole = play(subject.env(), index, by_oracle)
        for turn in range(len(whole.actions)):
            env = subject.env()
            episode = begin(env, index)
            for action in whole.actions[:turn]:
                step(env, episode, action)
            other = subject.env()
            other.set_state(json.loads(json.dumps(env.get_state())))
            for action in whole.actions[turn:]:
                step(other, episode, action)
            if episode.transcript() != whole.transcript():
                raise FaultError(
                    f"task {index}: going on from the state of turn {turn} went another way"
                )
            states += 1
    return f"{states} states went through JSON and on like the episode"


CHECKS = {
    "determinism": _twice,
    "processes": _processes,
    "global rng": _global_rng,
    "fork": _fork,
    "state": _state,
}
