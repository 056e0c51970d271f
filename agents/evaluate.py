"""Evaluation: the same held-out tasks for every policy, so that differences are paired."""

from __future__ import annotations

from dataclasses import dataclass

from turnhalle.envs.registry import EnvFactory

from .core import Trajectory
from .policy import Policy
from .rollout import Job, Watch, rollout
from .stats import Estimate, paired_difference, wilson


@dataclass(slots=True)
class Evaluation:
    """How a policy did on a list of tasks, one episode each."""

    policy: str
    trajectories: list[Trajectory]

    @property
    def successes(self) -> list[bool]:
        """`[n]` by task; an episode that failed for reasons of ours counts as a failure here."""
        return [t.success for t in self.trajectories]

    @property
    def num_errors(self) -> int:
        """Episodes that failed for reasons of ours."""
        return sum(t.is_masked for t in self.trajectories)

    @property
    def success(self) -> Estimate:
        """Success rate with its 95 % Wilson interval."""
        return wilson(sum(self.successes), len(self.trajectories))

    @property
    def mean_return(self) -> float:
        """Mean of the returns."""
        return sum(t.episode_return for t in self.trajectories) / len(self.trajectories)

    @property
    def mean_turns(self) -> float:
        """Mean number of turns."""
        return sum(len(t.turns) for t in self.trajectories) / len(self.trajectories)

    def gain_over(self, before: Evaluation) -> Estimate:
        """Difference in success on the same tasks, with its 95 % paired interval."""
        return paired_difference(before.successes, self.successes)


def evaluate(
    factory: EnvFactory,
    policy: Policy,
    tasks: int,
    *,
    split: str = "eval",
    seed: int = 0,
    watch: Watch | None = None,
) -> Evaluation:
    """Play tasks 0 to `tasks` - 1 of a split, once each, with sampling seeds fixed by `seed`."""
    jobs = [Job(split, index, 0, seed) for index in range(tasks)]
    return Evaluation(policy.name, rollout(factory, policy, jobs, watch))
