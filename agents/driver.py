"""The loop behind every rollout: neither engine nor environments ever wait for one another.

Environments that answer at once are stepped where their action arrives. Those that block run in
threads, those with `step_async` in an event loop; meanwhile the policy works on what it has. What
a policy draws hangs on the episode's seed alone, so the order in which things arrive changes no
result (with an engine in 32 bits, and no time-out or quorum that the clock decides).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from turnhalle.envs.core import StepInfo
from turnhalle.envs.errors import InterruptedRunError
from turnhalle.envs.playable import Playable
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_seed
from turnhalle.envs.tasks import Task

from .calls import Answer, Calls, spawn
from .core import Trajectory
from .episode import Episode, Job, Step, as_fault, as_step, whose
from .journal import Journal
from .limits import BranchOptions, LimitOptions
from .policy import Decision, Opening, Policy

_log = logging.getLogger("turnhalle")

Watch = Callable[[int, int], bool]
Take = Callable[[int, Any], None]
"""Takes what an environment answered: the number of the episode, and the answer."""

_PATIENCE_S = 0.2
"""Longest wait for environments before somebody may ask to stop."""


class Driver:
    """Plays jobs to the end; made for one rollout."""

    def __init__(
        self,
        factory: EnvFactory,
        policy: Policy,
        limits: LimitOptions,
        branch: BranchOptions,
        watch: Watch | None,
        journal: Journal | None = None,
    ) -> None:
        self._factory, self._policy = factory, policy
        self._limits, self._branch, self._watch = limits, branch, watch
        self._journal = journal
        self._calls = Calls(limits.threads, limits.max_abandoned)
        self._waiting: deque[tuple[int, Job]] = deque()
        self._live: dict[int, Episode] = {}
        self._leaves: dict[int, int] = {}
        """Of each live episode, how many it and its forks may yet become."""
        self._asked: dict[int, Take] = {}
        self._done: dict[tuple[int, int], Trajectory] = {}
        self._num_episodes = 0
        self._finished: Counter[Job] = Counter()
        self._graces: dict[Job, float] = {}
        self._watched = 0.0
        self._has_news = True

    def play(self, jobs: Sequence[Job]) -> dict[tuple[int, int], Trajectory]:
        """Play all jobs; what fails is among the trajectories, with its reason.

        Returns:
            The trajectories by the place of their job and the number of their sample.

        Raises:
            InterruptedRunError: `watch` said so; it holds what is finished.
        """
        leaves = self._branch.num_leaves
        self._waiting.extend(
            (number, replace(job, sample=job.sample * leaves)) for number, job in enumerate(jobs)
        )
        self._num_episodes = len(jobs)
        try:
            while self._waiting or self._live:
                self._admit()
                self._tell()
                self._collect()
                self._decide()
                self._expire()
        except KeyboardInterrupt as error:
            raise self._interrupted() from error
        finally:
            for number in list(self._live):
                try:
                    self._leave(number)
                except Exception as error:  # of the policy; the others must be left too
                    _log.warning("an episode cannot be ended: %s: %s", type(error).__name__, error)
            self._calls.close()
        if self._watch is not None:
            self._watch(len(self._done), self._num_episodes)
        return self._done

    def count(self, job: Job) -> None:
        """A rollout of the job's group is finished, here or by an earlier driver."""
        if self._limits.quorum is None:
            return
        group = replace(job, sample=0)
        self._finished[group] += 1
        if self._finished[group] == self._limits.quorum:
            self._graces[group] = time.monotonic() + self._limits.grace_s

    def _admit(self) -> None:
        """Start episodes while there is room for all that they may be forked into."""
        free = self._policy.max_concurrent - sum(self._leaves.values())
        while self._waiting and (free >= self._branch.num_leaves or not self._live):
            number, job = self._waiting.popleft()
            env = self._open(number, job)
            if env is None:
                continue
            self._live[number] = Episode(env, job, number, self._limits.max_observation_chars)
            self._leaves[number] = self._branch.num_leaves
            free -= self._branch.num_leaves
            self._ask(number, self._live[number].reset, self._opened)

    def _open(self, number: int, job: Job) -> Playable | None:
        """An environment for a job; None where it cannot be built, which is written down."""
        try:
            return self._factory.open()
        except BaseException as error:
            fault = as_fault(error, self._factory.id)
        difficulty = job.difficulty or self._factory.cls.difficulty
        task = Task(self._factory.id, job.split, job.index, difficulty, {})
        failed = Trajectory(task, job.sample, stop=whose(fault), error=str(fault))
        self._record(number, job, failed)
        return None

    def _ask(self, number: int, work: Callable[[], Any], take: Take, num_answers: int = 1) -> None:
        """Have an environment work, where it keeps nobody waiting."""
        self._asked[number] = take
        episode = self._live[number]
        if episode.is_blocking:
            kill = getattr(episode.env, "kill", None)
            timeout_s = num_answers * self._limits.turn_timeout_s
            self._calls.call(number, work, timeout_s, kill, episode.came_late)
        else:
            self._attend(_now(number, work))

    def _collect(self) -> None:
        """Take what environments answered; waits only where there is nothing else to do."""
        if self._calls.num_open:
            is_idle = self._calls.num_open >= len(self._live)
            for answer in self._calls.ready(_PATIENCE_S if is_idle else 0.0):
                self._attend(answer)

    def _decide(self) -> None:
        if self._calls.num_open >= len(self._live):
            return
        for decision in self._policy.poll():
            self._act(decision)
            self._has_news = True

    def _act(self, decision: Decision) -> None:
        number = decision.episode
        episode = self._live[number]
        step = episode.decide(decision)
        if step is None:
            self._finish(number)
        elif (step_async := getattr(episode.env, "step_async", None)) is not None:

            async def work() -> Step:
                return as_step(await step_async(decision.action))

            self._asked[number] = self._took
            self._calls.await_(number, work, self._limits.turn_timeout_s, episode.came_late)
        else:
            self._ask(number, step, self._took)

    def _attend(self, answer: Answer) -> None:
        """An environment answered."""
        take = self._asked.pop(answer.key)
        if answer.error is None:
            take(answer.key, answer.value)
        else:
            self._live[answer.key].failed(answer.error)
            self._finish(answer.key)

    def _opened(self, number: int, reset: tuple[str, StepInfo]) -> None:
        episode = self._live[number]
        episode.opened(*reset)
        self._policy.begin(self._opening(number, episode))

    def _took(self, number: int, step: Step) -> None:
        episode = self._live[number]
        if not episode.took(step):
            self._finish(number)
        elif len(episode.record.turns) in self._branch.at:
            self._fork(number, episode)
        else:
            self._policy.observe(number, episode.info["messages"])

    def _fork(self, number: int, episode: Episode) -> None:
        """Fork an episode; it goes on itself once its forks are made."""
        first, stride = episode.job.sample, self._leaves[number] // self._branch.factor
        samples = [first + branch * stride for branch in range(1, self._branch.factor)]
        # A fork by replay has the first observation and every turn answered again.
        num_answers = len(samples) * (1 + len(episode.record.turns))
        self._ask(number, lambda: [episode.fork(s) for s in samples], self._forked, num_answers)

    def _forked(self, number: int, children: list[Episode]) -> None:
        self._leaves[number] //= self._branch.factor
        for child in children:
            other, self._num_episodes = self._num_episodes, self._num_episodes + 1
            self._live[other], self._leaves[other] = child, self._leaves[number]
            if child.is_begun:
                self._policy.fork(number, self._opening(other, child))
            else:
                self._finish(other)
        self._policy.observe(number, self._live[number].info["messages"])

    def _opening(self, number: int, episode: Episode) -> Opening:
        job = episode.job
        seed = derive_seed("sample", job.seed, job.split, job.index, job.sample)
        tools = episode.info.get("tools", [])
        return Opening(number, episode.info["messages"], tools, seed, episode.env)

    def _finish(self, number: int) -> None:
        episode = self._live[number]
        self._record(episode.root, episode.job, episode.record)
        self._leave(number)

    def _record(self, root: int, job: Job, record: Trajectory) -> None:
        self._done[root, record.sample] = record
        if self._journal is not None:
            self._journal.add(job, record)
        self.count(job)

    def _leave(self, number: int) -> None:
        """Forget an episode, whatever it is at."""
        episode = self._live.pop(number)
        del self._leaves[number]
        self._asked.pop(number, None)
        if self._calls.drop(number):
            episode.is_lost = True
        if episode.is_blocking:
            spawn(episode.close)
        else:
            episode.close()
        if episode.is_begun:
            self._policy.end(number)

    def _expire(self) -> None:
        """Cut episodes that take too long, and the stragglers of groups that have enough."""
        limit = self._limits.episode_timeout_s
        if limit is None and not self._graces:
            return
        now = time.monotonic()
        for number, episode in list(self._live.items()):
            if limit is not None and now > episode.started + limit:
                episode.cancel(f"the episode took longer than {limit:g} s")
            elif now > self._graces.get(replace(episode.job, sample=0), now):
                episode.cancel(f"{self._limits.quorum} rollouts of the group were finished before")
            else:
                continue
            self._finish(number)

    def _tell(self) -> None:
        """Tell who watches, after every turn and now and then; they may stop the rollout."""
        now = time.monotonic()
        if self._watch is None or not (self._has_news or now > self._watched + _PATIENCE_S):
            return
        self._watched, self._has_news = now, False
        if self._watch(len(self._done), self._num_episodes):
            raise self._interrupted()

    def _interrupted(self) -> InterruptedRunError:
        finished = [trajectory for _, trajectory in sorted(self._done.items())]
        return InterruptedRunError("the rollout was interrupted", finished)


def _now(number: int, work: Callable[[], Any]) -> Answer:
    try:
        return Answer(number, work())
    except BaseException as error:  # `as_fault` says which are an environment's
        return Answer(number, error=error)
