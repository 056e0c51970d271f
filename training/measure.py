"""Measuring the policy on held-out tasks: the same ones, with the same seeds, every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.agents.core import Trajectory
from turnhalle.agents.evaluate import Evaluation, evaluate, recall
from turnhalle.agents.policy import Policy
from turnhalle.agents.ranks import ALONE, World
from turnhalle.agents.rollout import Watch
from turnhalle.agents.store import RunStore
from turnhalle.envs.registry import EnvFactory

from .labels import labels
from .options import TrainOptions
from .progress import Listener


@dataclass(frozen=True, slots=True)
class Examiner:
    """Evaluates a run's policy in all of its environments."""

    factories: Sequence[EnvFactory]
    policy: Policy
    options: TrainOptions
    store: RunStore
    listener: Listener
    world: World = ALONE

    def measure(self, step: int, watch: Watch) -> Evaluation:
        """Measure the policy as it is, or recall the measurement where the step has one."""
        if (known := self.world.first(lambda: self._recall(step))) is not None:
            return known
        tasks, seed = self.options.evaluate.tasks, self.options.seed
        metrics: dict[str, float] = {}
        played: list[Trajectory] = []
        for label, factory in zip(labels(self.factories), self.factories, strict=True):
            done = evaluate(
                factory,
                self.policy,
                tasks,
                seed=seed,
                watch=watch,
                limits=self.options.rollout.limits,
                world=self.world,
            )
            played += done.trajectories
            if len(self.factories) > 1:
                metrics[f"eval/success/{label}"] = done.success.value
        result = Evaluation(self.policy.name, played)
        metrics |= {"eval/success": result.success.value, "eval/return": result.mean_return}
        self.store.write_step(step, metrics, [("eval", t, None) for t in played])
        self.listener.evaluation(step, result)
        return result

    def _recall(self, step: int) -> Evaluation | None:
        """What the store holds of a step; the first rank's alone does."""
        return recall(self.store, step) if step in self.store.evaluated_steps() else None
