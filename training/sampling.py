"""Sampling: which tasks a step plays, in which environment, and which groups are played anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnhalle.agents.chat import Chat
from turnhalle.agents.core import Group
from turnhalle.agents.engines.base import Engine
from turnhalle.agents.journal import Journal
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.policy import Policy
from turnhalle.agents.ranks import ALONE, World
from turnhalle.agents.rollout import Job, Watch, rollout_groups
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_rng, derive_seed

from .credit.assign import assign_credit
from .credit.episodes import read_episodes
from .curriculum import Curriculum
from .options import RolloutOptions, TrainOptions


@dataclass(frozen=True, slots=True)
class Sampler:
    """Plays the groups of a step; which ones follows from the options and the step alone."""

    options: TrainOptions
    factories: Sequence[EnvFactory]
    """Of `env`, then of each one of `mix`."""
    policy: Policy
    world: World = ALONE
    """Each rank plays some of the tasks; all get all groups."""
    journal: Journal | None = None
    """What is finished of the step's batch already."""

    def play(
        self, step: int, curriculum: Curriculum | None, watch: Watch
    ) -> tuple[list[Group], dict[str, float]]:
        """The groups of a step in the order of their numbers.

        Groups whose credit is all 0 teach nothing. Each is replaced by another task, and that one
        too if need be, until `rollout.tasks` groups teach or `rollout.max_refills` further tasks
        were played (dynamic sampling, arXiv 2503.14476, section 3.2). The groups replaced are
        returned too: they were played, and count in the step's success.
        """
        wanted, budget = self.options.rollout.tasks, self.options.rollout.max_refills
        groups = self._round(step, range(wanted), curriculum, watch)
        refills = 0
        while refills < budget and (missing := wanted - self._num_teaching(groups)):
            count = min(missing, budget - refills)
            first = wanted + refills
            groups += self._round(step, range(first, first + count), curriculum, watch)
            refills += count
        return groups, {"refilled_groups": float(refills)} if budget else {}

    def _round(
        self, step: int, numbers: Sequence[int], curriculum: Curriculum | None, watch: Watch
    ) -> list[Group]:
        """Play tasks by their numbers, on all ranks."""
        return self.world.spread(numbers, lambda own: self._own(step, own, curriculum, watch))

    def _own(
        self, step: int, numbers: Sequence[int], curriculum: Curriculum | None, watch: Watch
    ) -> list[Group]:
        """Play tasks by their numbers, environment by environment."""
        groups: dict[int, Group] = {}
        rollout = self.options.rollout
        for which, factory in enumerate(self.factories):
            own = [number for number in numbers if self._environment(step, number) == which]
            jobs = [self._job(step, number, curriculum) for number in own]
            if jobs:
                played = rollout_groups(
                    factory,
                    self.policy,
                    jobs,
                    rollout.group_size,
                    watch,
                    limits=rollout.limits,
                    branch=rollout.branch,
                    journal=self.journal,
                )
                groups.update(zip(own, played, strict=True))
        return [groups[number] for number in numbers]

    def _environment(self, step: int, number: int) -> int:
        """The environment of a task: drawn by weight."""
        if not self.options.mix:
            return 0
        weights = [1.0, *(part.weight for part in self.options.mix)]
        rng = derive_rng("environment", self.options.seed, step, number)
        return rng.choices(range(len(weights)), weights)[0]

    def _job(self, step: int, number: int, curriculum: Curriculum | None) -> Job:
        """Fresh tasks every time."""
        seed = self.options.seed
        return Job(
            "train",
            derive_seed("task", seed, step, number),
            seed=derive_seed("rollout", seed, step),
            difficulty=curriculum.difficulty(seed, step, number) if curriculum else None,
        )

    def _num_teaching(self, groups: Sequence[Group]) -> int:
        credit = assign_credit(read_episodes(groups), self.options.credit)
        return credit.num_teaching


def open_policy(options: RolloutOptions, engine: Engine, chat: Chat) -> LLMPolicy:
    """The policy that a run trains, on its engine."""
    sampling, most = options.sampling(), options.max_concurrent
    return LLMPolicy("policy", engine, chat, sampling, most, options.overflow)
