"""Playing episodes: rollouts of jobs, and of groups of jobs that share a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from turnhalle.envs.errors import ConfigError
from turnhalle.envs.registry import EnvFactory

from .core import Group, Trajectory
from .driver import Driver, Watch
from .episode import Job
from .journal import Journal
from .limits import DEFAULT_LIMITS, STRAIGHT, BranchOptions, LimitOptions
from .policy import Policy

__all__ = ["Job", "Watch", "rollout", "rollout_groups"]


def rollout(
    factory: EnvFactory,
    policy: Policy,
    jobs: Sequence[Job],
    watch: Watch | None = None,
    limits: LimitOptions = DEFAULT_LIMITS,
) -> list[Trajectory]:
    """Play all jobs, as many at a time as the policy can; trajectories in the order of the jobs.

    A bug in the environment ends its episode, which is returned with its error; the rest go on.

    Args:
        factory: Builds an environment for each episode.
        policy: Who plays.
        jobs: What is played.
        watch: Told a few times a second how many episodes are done of how many; True stops.
        limits: What an episode may cost.

    Raises:
        InterruptedRunError: `watch` said so; holds the trajectories that are finished.
    """
    played = Driver(factory, policy, limits, STRAIGHT, watch).play(jobs)
    return [trajectory for _, trajectory in sorted(played.items())]


def rollout_groups(
    factory: EnvFactory,
    policy: Policy,
    firsts: Sequence[Job],
    group_size: int,
    watch: Watch | None = None,
    *,
    limits: LimitOptions = DEFAULT_LIMITS,
    branch: BranchOptions = STRAIGHT,
    journal: Journal | None = None,
) -> list[Group]:
    """Play each job `group_size` times, from the same start and with the same noise.

    Where `branch` says so, episodes are forked: their siblings are of the same group, and share
    the turns before the fork. Without forks a `journal` may hold rollouts that are finished
    already; they are not played again.

    Raises:
        ConfigError: Forks and a journal, which knows rollouts by their jobs.
        InterruptedRunError: `watch` said so; holds the trajectories that this call finished.
    """
    if journal is not None and branch.num_leaves > 1:
        raise ConfigError("episodes that fork have no journal; leave out one of journal and branch")
    jobs = [replace(job, sample=sample) for job in firsts for sample in range(group_size)]
    known = {i: journal.find(job) for i, job in enumerate(jobs)} if journal is not None else {}
    left = [i for i in range(len(jobs)) if known.get(i) is None]
    driver = Driver(factory, policy, limits, branch, watch, journal)
    for i in known.keys() - set(left):
        driver.count(jobs[i])
    played = driver.play([jobs[i] for i in left])
    done = {(left[place], sample): trajectory for (place, sample), trajectory in played.items()}
    done |= {(i, 0): trajectory for i, trajectory in known.items() if trajectory is not None}
    groups: list[list[Trajectory]] = [[] for _ in firsts]
    for (place, _), trajectory in sorted(done.items()):
        groups[place // group_size].append(trajectory)
    return [Group(group[0].task, group) for group in groups]
