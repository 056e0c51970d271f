"""The batches of a run, one after another; with a lookahead each is begun a step early.

A batch that is begun early plays in a thread while the step before it trains (one-step off-policy:
Noukhovitch et al. 2024, arXiv 2410.18252). It is played by a copy of the adapter from before that
update, so what runs beside it changes nothing: which tasks, weights and random numbers it takes is
settled when it begins.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from turnhalle.agents.adapters import Snapshot, twin
from turnhalle.agents.chat import Chat
from turnhalle.agents.core import Group
from turnhalle.agents.engines.open import open_engine
from turnhalle.agents.engines.parity import require_adapter_in_force
from turnhalle.agents.journal import Journal
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.ranks import ALONE, World
from turnhalle.envs.registry import EnvFactory

from .curriculum import Curriculum
from .interrupt import StopRequest
from .options import TrainOptions
from .progress import Listener
from .sampling import Sampler, open_policy


@dataclass(frozen=True, slots=True)
class Played:
    """What a step learns from."""

    groups: list[Group]
    metrics: dict[str, float]
    by: Snapshot
    """The adapter that sampled it."""


class Rollouts:
    """Who plays: an engine, a policy on it, and the tasks that it is given."""

    def __init__(
        self,
        options: TrainOptions,
        factories: Sequence[EnvFactory],
        lm: LanguageModel,
        chat: Chat,
        listener: Listener,
        stop: StopRequest,
        folder: Path,
        world: World = ALONE,
    ) -> None:
        """Start the engine, and make sure that it samples from the model's adapter.

        Raises:
            ConfigError: vLLM is not installed.
            EngineError: The engine does not start, or samples from something else.
        """
        rollout = options.rollout
        # Weights that an update moves cannot be sampled from meanwhile.
        sampled = twin(lm) if rollout.lookahead else lm
        self.engine = open_engine(options.engine, sampled, rollout.max_context)
        require_adapter_in_force(lm, self.engine)
        self.policy = open_policy(rollout, self.engine, chat)
        self.curriculum = Curriculum.begin(options.curriculum) if options.curriculum else None
        """After the last batch that was taken."""
        self.behind: Snapshot | None = None
        """Who plays the batch after it, where that is not the adapter in training."""
        self._options, self._lm, self._listener, self._stop = options, lm, listener, stop
        self._world = world
        self._sampler = Sampler(options, factories, self.policy, world)
        self._journals = None if self._is_exact(factories) else folder / "begun"
        self._ahead: Future[Played] | None = None
        self._is_dropped = False

    def batch(self, step: int) -> Played:
        """The batch of a step; before the update, for with a lookahead the next one is begun.

        Raises:
            InterruptedRunError: Somebody asked to stop; the batch is not finished.
        """
        before = Snapshot(step - 1, self._lm.trainable())
        if self._ahead is None:
            self._forget(lambda written: written != step)
            played = self._play(step, self.behind or before)
        else:
            played = self._ahead.result()
            self._ahead = None
        self._advance(played.groups)
        if self._options.rollout.lookahead:
            behind = self.behind = Snapshot.of(self._lm, step - 1)
            if step < self._options.steps:
                self._ahead = _in_thread(lambda: self._play(step + 1, behind))
        return played

    def resting(self) -> AbstractContextManager[None]:
        """While this is open the engine may lend its memory, unless it plays ahead."""
        return nullcontext() if self._ahead is not None else self.engine.resting()

    def follow(self, step: int) -> None:
        """Let the engine sample from the adapter as it is, once nothing plays any more."""
        if self._ahead is not None:
            wait([self._ahead])
        self.engine.load_adapter(step, self._lm.trainable())

    def drop(self) -> None:
        """Stop what plays ahead; nobody wants it."""
        if self._ahead is not None:
            self._is_dropped = True
            wait([self._ahead])
            self._ahead, self._is_dropped = None, False

    def _play(self, step: int, by: Snapshot) -> Played:
        started = time.perf_counter()
        watch = self._stop.watch(f"step {step}")
        self.engine.load_adapter(by.version, by.tensors)
        self.policy.drift.clear()
        sampler = replace(self._sampler, journal=self._journal(step, by.version))
        groups, metrics = sampler.play(
            step, self.curriculum, lambda done, total: watch(done, total) or self._is_dropped
        )
        drift = sum(self._world.exchange(self.policy.drift), Counter[str]())
        metrics |= {f"drift/{name}": float(n) for name, n in drift.items()}
        if self.curriculum is not None:
            metrics["difficulty"] = float(self.curriculum.level)
        metrics["time/rollout"] = time.perf_counter() - started
        return Played(groups, metrics, by)

    def finished(self, step: int) -> None:
        """A step is recorded, and what was written down of its batch is not needed any more."""
        self._forget(lambda written: written == step)

    def _forget(self, is_old: Callable[[int], bool]) -> None:
        """Remove what was written down of some steps."""
        if self._journals is not None:
            for path in self._journals.glob("step-*.jsonl"):
                if is_old(int(path.name.split("-")[1])):
                    path.unlink(missing_ok=True)

    def _journal(self, step: int, version: int) -> Journal | None:
        """Where the rollouts of a batch are written down as they end."""
        if self._journals is None:
            return None
        name = f"step-{step:06d}"
        found = sorted(self._journals.glob(f"{name}-*.jsonl"))
        return Journal(self._journals / f"{name}-{self._world.rank}.jsonl", found, version)

    def _is_exact(self, factories: Sequence[EnvFactory]) -> bool:
        """Does a batch that is played again come to the same bits, and at no great cost?

        Forked rollouts are played again too: what is finished of them is no whole rollout.
        """
        rollout, device = self._options.rollout, self._lm.device.type
        by_clock = rollout.limits.quorum is not None or rollout.limits.episode_timeout_s is not None
        is_sampled_so = self.engine.capabilities.is_exact and device == "cpu" and not by_clock
        return bool(rollout.branch.at) or (is_sampled_so and not any(map(_may_block, factories)))

    def _advance(self, groups: Sequence[Group]) -> None:
        """Move the curriculum on."""
        if (before := self.curriculum) is None:
            return
        self.curriculum = before.after(groups)
        if self.curriculum.level > before.level:
            self._listener.note(f"difficulty rises to {self.curriculum.level}")


def _may_block(factory: EnvFactory) -> bool:
    with closing(factory.open()) as env:
        return bool(env.metadata.get("blocking"))


def _in_thread(work: Callable[[], Played]) -> Future[Played]:
    """Start work in a daemon thread: one that hangs does not keep the process alive."""
    future: Future[Played] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="rollouts").start()
    return future
