"""One episode: an environment, and the record of what happens in it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from turnhalle.envs.core import Message, StepInfo, StopReason
from turnhalle.envs.errors import (
    EnvError,
    EnvTimeoutError,
    EpisodeOverError,
    OutsideError,
    TurnhalleError,
)
from turnhalle.envs.playable import Playable
from turnhalle.envs.tasks import Task

from .core import Trajectory, Turn
from .limits import shorten, shorten_all, well_formed
from .policy import Decision

_log = logging.getLogger("turnhalle")

Step = tuple[str, float, bool, bool, StepInfo]


@dataclass(frozen=True, slots=True)
class Job:
    """One episode to play; equal jobs give equal episodes."""

    split: str
    index: int
    """Number of the task in its split."""
    sample: int = 0
    """Number of the rollout within its group: rollouts differ by what the policy draws."""
    seed: int = 0
    """Seed of the run."""
    difficulty: int | None = None
    """None is the environment's own."""

    def options(self) -> dict[str, Any]:
        """Options of `reset`."""
        chosen = {} if self.difficulty is None else {"difficulty": self.difficulty}
        return {"split": self.split, "task": self.index, **chosen}


class Episode:
    """An environment and the record of what happens in it.

    What the environment does (`reset`, `step`) and what is recorded of it (`opened`, `took`) are
    apart, so that the former may happen in another thread.
    """

    def __init__(self, env: Playable, job: Job, root: int, max_chars: int) -> None:
        self.env, self.job, self.root = env, job, root
        """`root` is the place of the job among the jobs; forks keep it."""
        self.info = StepInfo(messages=[])
        self.trajectory: Trajectory | None = None
        self.is_begun = False
        """Has the first observation come?"""
        self.is_lost = False
        """Does a call hang in the environment? Nobody may touch it any more."""
        self.started = time.monotonic()
        self._max_chars = max_chars
        self._observation = ""
        self._decision: Decision | None = None

    @property
    def record(self) -> Trajectory:
        """The trajectory so far; there is one once the task is drawn."""
        if self.trajectory is None:
            self.trajectory = Trajectory(self._task(), self.job.sample)
        return self.trajectory

    @property
    def is_blocking(self) -> bool:
        """May the environment keep its caller waiting?"""
        return bool(self.env.metadata.get("blocking"))

    def reset(self) -> tuple[str, StepInfo]:
        """Start the environment."""
        observation, info = self.env.reset(options=self.job.options())
        if not _is_seen(observation, info):
            raise EnvError(
                f"reset must return (observation, info), got {(observation, info)!r:.200}"
            )
        return observation, info

    def opened(self, observation: str, info: StepInfo) -> None:
        """Take the first observation."""
        self.started, self.is_begun = time.monotonic(), True
        self._see(observation, info)

    def decide(self, decision: Decision) -> Callable[[], Step] | None:
        """Take a decision; the step of the environment that it asks for, or None at the end."""
        if decision.stop is None:
            decision.action = well_formed(decision.action)
            self._decision = decision
            return lambda: as_step(self.env.step(decision.action))
        self.record.stop, self.record.error = decision.stop, decision.error
        self.record.truncated = decision.error is None
        self.record.final_observation = self._observation
        return None

    def took(self, step: Step) -> bool:
        """Record a step; False once the episode is over."""
        observation, reward, terminated, truncated, info = step
        record, decision = self.record, self._decision
        assert decision is not None
        record.turns.append(
            Turn(
                self._observation,
                decision.action,
                reward,
                info.get("parts", {}),
                decision.segments,
                info.get("faults", {}),
            )
        )
        self._see(observation, info)
        record.final_observation = self._observation
        if terminated or truncated:
            record.terminated, record.truncated = terminated, truncated
            record.success, record.stop = info["success"], info["stop"]
        return not (terminated or truncated)

    def failed(self, error: BaseException) -> None:
        """Record that the environment failed; what is no fault of an environment is raised.

        Raises:
            TurnhalleError: A mistake of the user's: an option that does not exist.
            KeyboardInterrupt: Of whoever waits.
        """
        fault = as_fault(error, self.env.id)
        self.is_lost = isinstance(fault, EnvTimeoutError)
        self.record.stop = whose(fault)
        self.record.error = shorten(str(fault), self._max_chars)
        _log.info("episode %s/%d: %s", self.env.id, self.job.index, self.record.error)

    def cancel(self, why: str) -> None:
        """Record that nobody waits for the episode any more."""
        self.record.stop, self.record.error = StopReason.TIMEOUT, why

    def fork(self, sample: int) -> Episode:
        """Another episode that goes on from here, with an environment of its own.

        Where that fails it does not begin, and its record says why.

        Raises:
            ConfigError: The environment cannot be snapshot.
        """
        job = replace(self.job, sample=sample)
        other = Episode(self.env, job, self.root, self._max_chars)
        other.trajectory = replace(
            self.record,
            sample=sample,
            turns=list(self.record.turns),
            fork_parent=self.job.sample,
            fork_turn=len(self.record.turns),
        )
        other.info, other._observation = self.info, self._observation
        other.started = self.started
        try:
            other.env = self.env.fork()
            other.is_begun = True
        except EpisodeOverError:
            turns = len(other.trajectory.turns)
            why = f"{self.env.id} is not the same when it is replayed: it ends before turn {turns}"
            other.failed(EnvError(why))
        except BaseException as error:
            other.failed(error)
        other.is_lost = not other.is_begun  # what it has is its parent's environment
        return other

    def close(self) -> None:
        """Free what the environment holds; one that fails at that is only noted."""
        if not self.is_lost:
            self._close()

    def came_late(self, value: Any) -> None:
        """A call that was given up came back after all: close what it leaves behind."""
        self._close()
        for child in value if isinstance(value, list) else ():
            child.close()

    def _close(self) -> None:
        try:
            self.env.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the episode is over; its record must not suffer
            _log.warning("%s.close() failed: %s: %s", self.env.id, type(error).__name__, error)

    def _task(self) -> Task:
        try:
            return self.env.task
        except EpisodeOverError:
            # The environment hangs in the drawing of its task: all that is known is which.
            difficulty = self.job.difficulty or self.env.difficulty
            return Task(self.env.id, self.job.split, self.job.index, difficulty, {})

    def _see(self, observation: str, info: StepInfo) -> None:
        self._observation = shorten(observation, self._max_chars)
        self.info = {**info, "messages": shorten_all(info["messages"], self._max_chars)}


def as_fault(error: BaseException, env: str) -> EnvError:
    """What an environment raised, as its fault; it may try to end the process, too.

    Raises:
        TurnhalleError: A mistake of the user's.
        KeyboardInterrupt: Of whoever waits.
    """
    if isinstance(error, EnvError):
        return error
    # No episode that is over is stepped here: an environment says so of one inside of it.
    is_inner = isinstance(error, EpisodeOverError)
    if isinstance(error, (TurnhalleError, KeyboardInterrupt)) and not is_inner:
        raise error
    fault = EnvError(f"bug in {env}: {type(error).__name__}: {error}")
    fault.__cause__ = error
    return fault


def as_step(value: Any) -> Step:
    """What an environment answered, looked at before anybody relies on it.

    Raises:
        EnvError: It is not what `step` returns.
    """
    try:
        observation, reward, terminated, truncated, info = value
        is_over = bool(terminated or truncated)
        is_told = not is_over or ("success" in info and "stop" in info)
        if _is_seen(observation, info) and is_told and math.isfinite(reward):
            return observation, float(reward), bool(terminated), bool(truncated), info
    except (TypeError, ValueError):
        pass  # said below
    raise EnvError(
        "a step must return (observation, reward, terminated, truncated, info), with the "
        f"observation's messages in info, got {value!r:.200}"
    )


def _is_seen(observation: Any, info: Any) -> bool:
    return (
        isinstance(observation, str)
        and isinstance(info, dict)
        and all(isinstance(message, Message) for message in info.get("messages", [None]))
    )


def whose(error: EnvError) -> StopReason:
    """Did the environment fail or hang, or something outside that it asked (a judge, a user)?"""
    if isinstance(error, EnvTimeoutError):
        return StopReason.TIMEOUT
    is_outside = isinstance(error, OutsideError) or isinstance(error.__cause__, OutsideError)
    return StopReason.OUTSIDE_ERROR if is_outside else StopReason.ENV_ERROR
