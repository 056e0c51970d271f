"""The audit of an environment: does it keep the contract, and can its rewards be trusted?

Each check plays real episodes and says what it found. This is the first part of the audit: the
API, determinism, forks, splits, the oracle and the policy that says nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gymnasium.utils.env_checker import check_env

from .env import TextEnv
from .errors import TurnhalleError
from .registry import EnvFactory
from .tasks import SPLITS, canonical, split_of

_TASKS = 100
_NULL_SUCCESS = 0.05
_ORACLE_SUCCESS = 0.98
"""An oracle may lose to luck in two tasks of a hundred; rewards of the rest must be the maximum."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    is_ok: bool
    detail: str


def audit(factory: EnvFactory) -> Iterator[Finding]:
    """Run every check; a check that raises has failed."""
    for name, check in CHECKS.items():
        try:
            is_ok, detail = check(factory)
        except (TurnhalleError, AssertionError, NotImplementedError) as error:
            is_ok, detail = False, str(error) or type(error).__name__
        yield Finding(name, is_ok, detail)


def _api(factory: EnvFactory) -> tuple[bool, str]:
    """Gymnasium's own checker finds nothing, not even a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = factory(render_mode="ansi")
        # Other render modes are tried through the spec, which an unregistered class has not.
        check_env(env, skip_render_check=env.spec is None)
    if caught:
        return False, str(caught[0].message)
    return True, "passes Gymnasium's check_env without a warning"


def _determinism(factory: EnvFactory) -> tuple[bool, str]:
    """The same task gives the same episode, alone and interleaved with another."""
    for index in range(_TASKS // 10):
        alone = _transcript(factory(), index)
        twin, other = factory(), factory()
        twin.reset(options={"task": index})
        other.reset(options={"task": index + 1})
        interleaved = []
        for action, *_ in alone[1:]:
            if not other.is_over:
                other.step(action)
            interleaved.append(twin.step(action)[0])
        if _transcript(factory(), index) != alone:
            return False, f"task {index} gave two different episodes"
        if interleaved != [observation for _, observation, _ in alone[1:]]:
            return False, f"task {index} is another beside a second environment"
    return True, f"{_TASKS // 10} tasks give the same episode twice, and beside another"


def _fork(factory: EnvFactory) -> tuple[bool, str]:
    """A fork goes on exactly as its origin does."""
    if factory().metadata["snapshot"] == "none":
        return True, "declares that it cannot be snapshot"
    forks = 0
    for index in range(_TASKS // 10):
        env = factory()
        env.reset(options={"task": index})
        while not env.is_over:
            twin = env.fork()
            action = _act(env)
            if env.step(action) != twin.step(action) or env.get_state() != twin.get_state():
                return False, f"task {index}, turn {env.turn}: the fork went another way"
            forks += 1
    return True, f"{forks} forks went on like their origin"


def _splits(factory: EnvFactory) -> tuple[bool, str]:
    """Every drawn instance belongs to its split, so none is in two."""
    env = factory()
    if not env.task_family().by_content:
        return True, "by draw: every episode opens alike, so no task can be recognised"
    seen: dict[str, set[str]] = {}
    for split in SPLITS:
        seen[split] = set()
        for index in range(_TASKS):
            env.reset(options={"split": split, "task": index})
            if split_of(env.instance) != split:
                return False, f"task {index} of {split} belongs to {split_of(env.instance)}"
            seen[split].add(canonical(env.instance))
    sizes = ", ".join(f"{len(found)} in {split}" for split, found in seen.items())
    return True, f"disjoint; {_TASKS} draws each gave {sizes}"


def _oracle(factory: EnvFactory) -> tuple[bool, str]:
    """The oracle succeeds, and earns the declared maximum where it does."""
    if not factory().has_oracle:
        return False, "no oracle; nobody knows that the tasks can be solved"
    solved = 0
    for index in range(_TASKS):
        env = factory()
        env.reset(options={"task": index})
        earned, success = _play(env, lambda env: env.oracle())
        solved += success
        if success and abs(earned - env.reward_range[1]) > 1e-6:
            return (
                False,
                f"task {index} solved, but it earned {earned:g} of {env.reward_range[1]:g}",
            )
    detail = f"solves {solved} of {_TASKS} tasks, each for the maximal reward"
    return solved >= _ORACLE_SUCCESS * _TASKS, detail


def _null(factory: EnvFactory) -> tuple[bool, str]:
    """A policy that says nothing neither succeeds nor earns more than the floor."""
    solved = 0
    for index in range(_TASKS):
        env = factory()
        env.reset(options={"task": index})
        earned, success = _play(env, lambda env: "")
        solved += success
        if not success and earned > env.reward_floor + 1e-6:
            return False, f"task {index}: saying nothing earned {earned:g} > {env.reward_floor:g}"
    return solved <= _NULL_SUCCESS * _TASKS, f"saying nothing solves {solved} of {_TASKS} tasks"


CHECKS: dict[str, Callable[[EnvFactory], tuple[bool, str]]] = {
    "api": _api,
    "determinism": _determinism,
    "fork": _fork,
    "splits": _splits,
    "oracle": _oracle,
    "null policy": _null,
}


def _play(env: TextEnv, act: Callable[[TextEnv], str]) -> tuple[float, bool]:
    """Return and success of an episode."""
    earned, success = 0.0, False
    while not env.is_over:
        _, reward, _, _, info = env.step(act(env))
        earned += reward
        success = info.get("success", False)
    return earned, success


def _act(env: TextEnv) -> str:
    """An action that says something: the oracle's, or a word where there is none."""
    return env.oracle() if env.has_oracle else f"action {env.turn}"


def _transcript(env: TextEnv, index: int) -> list[tuple[str, str, float]]:
    """Action, observation and reward of every turn, the first observation first."""
    observation, _ = env.reset(options={"task": index})
    played = [("", observation, 0.0)]
    while not env.is_over:
        action = _act(env)
        observation, reward, *_ = env.step(action)
        played.append((action, observation, reward))
    return played
