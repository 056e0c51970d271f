"""Playing episodes: one loop for every policy, many episodes at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnhalle.envs.core import StepInfo, StopReason
from turnhalle.envs.env import TextEnv
from turnhalle.envs.errors import EnvError, InterruptedRunError, OutsideError
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_seed

from .core import Group, Trajectory, Turn
from .policy import Decision, Opening, Policy

Watch = Callable[[int, int], bool]


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


class _Episode:
    """An environment and the record of what happens in it."""

    def __init__(self, env: TextEnv, job: Job) -> None:
        self._env = env
        self._observation, self.info = "", StepInfo(messages=[])
        error = None
        try:
            self._observation, self.info = env.reset(options=job.options())
        except EnvError as caught:
            error = caught
        self.trajectory = Trajectory(env.task, job.sample)
        self.is_broken = error is not None
        if error is not None:
            self.trajectory.stop, self.trajectory.error = _whose(error), str(error)

    def play(self, decision: Decision) -> bool:
        """Take a decision; False once the episode is over."""
        record = self.trajectory
        if decision.stop is not None:
            record.stop, record.truncated = decision.stop, True
            record.final_observation = self._observation
            return False
        try:
            observation, reward, terminated, truncated, self.info = self._env.step(decision.action)
        except EnvError as error:
            record.stop, record.error = _whose(error), str(error)
            return False
        record.turns.append(
            Turn(
                self._observation,
                decision.action,
                reward,
                self.info.get("parts", {}),
                decision.segments,
                self.info.get("faults", {}),
            )
        )
        self._observation = record.final_observation = observation
        if terminated or truncated:
            record.terminated, record.truncated = terminated, truncated
            record.success, record.stop = self.info["success"], self.info["stop"]
        return not (terminated or truncated)


def rollout(
    factory: EnvFactory,
    policy: Policy,
    jobs: Sequence[Job],
    watch: Watch | None = None,
) -> list[Trajectory]:
    """Play all jobs, as many at a time as the policy can; trajectories in the order of the jobs.

    A bug in the environment ends its episode, which is returned with its error; the rest go on.

    Args:
        factory: Builds an environment for each episode.
        policy: Who plays.
        jobs: What is played.
        watch: Told how many episodes are done of how many, at every turn; True stops the rollout.

    Raises:
        InterruptedRunError: `watch` said so.
    """
    waiting = deque(enumerate(jobs))
    live: dict[int, _Episode] = {}
    done: dict[int, Trajectory] = {}
    while waiting or live:
        while waiting and len(live) < policy.max_concurrent:
            number, job = waiting.popleft()
            opened = _open(factory, policy, number, job)
            if opened.is_broken:
                done[number] = opened.trajectory
            else:
                live[number] = opened
        if not live:
            continue
        if watch is not None and watch(len(done), len(jobs)):
            for number in live:
                policy.end(number)
            raise InterruptedRunError("the rollout was interrupted")
        for decision in policy.poll():
            episode = live[decision.episode]
            if episode.play(decision):
                policy.observe(decision.episode, episode.info["messages"])
                continue
            policy.end(decision.episode)
            done[decision.episode] = live.pop(decision.episode).trajectory
    if watch is not None:
        watch(len(done), len(jobs))
    return [done[number] for number in range(len(jobs))]


def rollout_groups(
    factory: EnvFactory,
    policy: Policy,
    firsts: Sequence[Job],
    group_size: int,
    watch: Watch | None = None,
) -> list[Group]:
    """Play each job `group_size` times, from the same start and with the same noise."""
    jobs = [replace(job, sample=sample) for job in firsts for sample in range(group_size)]
    played = rollout(factory, policy, jobs, watch)
    starts = range(0, len(played), group_size)
    return [Group(played[i].task, played[i : i + group_size]) for i in starts]


def _open(factory: EnvFactory, policy: Policy, number: int, job: Job) -> _Episode:
    env = factory()
    episode = _Episode(env, job)
    if episode.is_broken:
        return episode
    seed = derive_seed("sample", job.seed, job.split, job.index, job.sample)
    opening = Opening(number, episode.info["messages"], episode.info.get("tools", []), seed, env)
    policy.begin(opening)
    return episode


def _whose(error: EnvError) -> StopReason:
    """Did the environment fail, or something outside that it asked (a judge, a simulated user)?"""
    is_outside = isinstance(error, OutsideError) or isinstance(error.__cause__, OutsideError)
    return StopReason.OUTSIDE_ERROR if is_outside else StopReason.ENV_ERROR
