"""Evaluation: the same held-out tasks for every policy, so that differences are paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import EnvError
from turnhalle.envs.registry import EnvFactory

from .core import Trajectory
from .limits import DEFAULT_LIMITS, LimitOptions
from .policy import Policy
from .ranks import ALONE, World
from .rollout import Job, Watch, rollout
from .stats import Estimate, paired_difference, wilson
from .store import RunStore

_NOBODYS = {StopReason.OUTSIDE_ERROR, StopReason.ENGINE_ERROR}


@dataclass(slots=True)
class Evaluation:
    """How a policy did on a list of tasks, one episode each."""

    policy: str
    trajectories: list[Trajectory]

    @property
    def counted(self) -> list[Trajectory]:
        """The episodes that rates and means count; there is at least one.

        What failed outside (a judge, a server, the engine) says nothing of the policy. A bug of the
        environment that its action found does: leaving it out would flatter those who break
        environments.
        """
        return [t for t in self.trajectories if t.stop not in _NOBODYS]

    @property
    def num_errors(self) -> int:
        """Episodes that failed for reasons of ours."""
        return sum(t.is_masked for t in self.trajectories)

    @property
    def success(self) -> Estimate:
        """Success rate with its 95 % Wilson interval."""
        return wilson(sum(t.success for t in self.counted), len(self.counted))

    @property
    def mean_return(self) -> float:
        """Mean of the returns."""
        return sum(t.episode_return for t in self.counted) / len(self.counted)

    @property
    def mean_turns(self) -> float:
        """Mean number of turns."""
        return sum(len(t.turns) for t in self.counted) / len(self.counted)

    @property
    def faults(self) -> dict[str, float]:
        """Tool calls a turn that went wrong, by kind."""
        return fault_rates(self.counted)

    def gain_over(self, before: Evaluation) -> Estimate:
        """Difference in success on the tasks that both counted, with its 95 % paired interval."""
        pairs = [
            (old.success, new.success)
            for old, new in zip(before.trajectories, self.trajectories, strict=True)
            if not {old.stop, new.stop} & _NOBODYS
        ]
        return paired_difference([old for old, _ in pairs], [new for _, new in pairs])


def fault_rates(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Tool calls a turn that went wrong, by kind, the most frequent kind first."""
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    counts = sum((Counter(turn.faults) for turn in turns), Counter[str]())
    return {kind: count / len(turns) for kind, count in counts.most_common()}


def recall(store: RunStore, step: int) -> Evaluation:
    """The evaluation that a run's store holds of a step."""
    ids = store.episode_ids("eval", step)
    return Evaluation("policy", [store.episode(id) for id in ids])


def evaluate(
    factory: EnvFactory,
    policy: Policy,
    tasks: int,
    *,
    split: str = "eval",
    seed: int = 0,
    watch: Watch | None = None,
    limits: LimitOptions = DEFAULT_LIMITS,
    world: World = ALONE,
) -> Evaluation:
    """Play tasks 0 to `tasks` - 1 of a split, once each, with sampling seeds fixed by `seed`."""
    jobs = [Job(split, index, 0, seed) for index in range(tasks)]
    played = world.spread(jobs, lambda own: rollout(factory, policy, own, watch, limits))
    result = Evaluation(policy.name, played)
    if not result.counted:
        raise EnvError(
            f"every episode failed outside, the first with: {result.trajectories[0].error}"
        )
    return result
