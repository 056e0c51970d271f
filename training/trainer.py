"""The training loop: play groups of episodes, credit their turns, update the adapter, repeat.

Everything random is derived by hash from the run's seed and the step, so a run that is stopped and
resumed is the run that was never stopped: on a CPU bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnhalle.agents.chat import load_chat
from turnhalle.agents.core import Group
from turnhalle.agents.engines.open import open_engine
from turnhalle.agents.engines.parity import require_adapter_in_force
from turnhalle.agents.evaluate import Evaluation
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import context_limit, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Watch
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import ConfigError, InterruptedRunError
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.seeding import derive_seed

from .batch import Batch, lay_out
from .checkpoint import load_learner
from .credit.assign import assign_credit
from .credit.episodes import Episodes, read_episodes
from .curriculum import Curriculum
from .fault_log import FaultLog
from .interrupt import StopRequest
from .learner import Learner, scheduled_rate
from .measure import Examiner
from .metrics import critic_metrics, rollout_metrics
from .options import TrainOptions
from .progress import Listener
from .records import step_records
from .reference import Reference
from .run_folder import RunFolder
from .sampling import Sampler
from .shaping import kl_prices, leave_out, overlong_prices, pay
from .stopping import reason_to_stop

LOW_SUCCESS = 0.05
"""Below this, most groups have no variance and there is nothing to learn from."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a finished run came to."""

    folder: Path
    adapter: Path
    before: Evaluation
    after: Evaluation
    stopped: str | None = None
    """Why it ended before its last step, where it did."""


class Trainer:
    """One training run in one folder. Everything that can be refused is refused on construction."""

    def __init__(
        self, options: TrainOptions, folder: Path, listener: Listener, *, resume: bool = False
    ) -> None:
        """Prepare a run.

        Args:
            options: What to do; a resumed run is given its own.
            folder: Where the run lives.
            listener: Who is told.
            resume: Go on from the last checkpoint in `folder`.

        Raises:
            ConfigError: Options that cannot work.
            ModelError: A model that cannot be used.
            StoreError: The folder holds a run already, or none to resume.
        """
        options.check()
        self.options, self.folder, self.listener = options, folder, listener
        factories = _open_environments(options)
        _check_context(options)
        self._home = RunFolder(folder, resume=resume)
        state = self._home.state()
        self._step: int = state["step"]
        start = self._home.start(options.start_from)
        chat = load_chat(options.model.name, options.chat)
        self._lm = load_model(
            options.model,
            adapter=self._home.checkpoint or start,
            lora_seed=derive_seed("lora", options.seed),
        )
        tune_process(self._lm.num_parameters)
        self._engine = open_engine(options.engine, self._lm, options.rollout.max_context)
        require_adapter_in_force(self._lm, self._engine)
        self._engine.load_adapter(self._step, self._lm.trainable())
        rollout = options.rollout
        self._policy = LLMPolicy(
            "policy",
            self._engine,
            chat,
            rollout.sampling(),
            rollout.max_concurrent,
            rollout.overflow,
        )
        self._sampler = Sampler(options, factories, self._policy)
        self._store = RunStore(folder, create=not resume)
        self._home.keep_start(start)
        self._reference = Reference(self._lm, start) if options.kl.weight else None
        self._learner = Learner(
            self._lm, options.learn, rollout.temperature, options.objective, self._reference
        )
        self._curriculum = Curriculum.begin(options.curriculum) if options.curriculum else None
        self._faults = FaultLog(self._store, listener, state.get("failed_updates", 0))
        if self._home.checkpoint is not None:
            self._go_on(self._home.checkpoint, state)
        self._store.forget_after(self._step)
        self._store.put("options", options.model_dump(mode="json"))
        self._examiner = Examiner(factories, self._policy, options, self._store, listener)
        self._is_parity_checked = False
        self._stop = StopRequest(listener)

    def run(self) -> RunResult:
        """Train to the last step, or to a reason to stop.

        Raises:
            InterruptedRunError: Ctrl-C; a checkpoint holds what is done, the message says how to
                go on.
            DivergedError: Three updates in a row had no finite gradient.
        """
        options = self.options
        with self._stop.on_signals():
            try:
                before = self._examiner.measure(0, self._watch("evaluation"))
                if before.success.value < LOW_SUCCESS:
                    self._warn(_low_success(before, options))
                while self._step < options.steps and (reason := self._reason_to_stop()) is None:
                    self._train_step(self._step + 1)
                    if options.evaluate.every and self._step % options.evaluate.every == 0:
                        self._examiner.measure(self._step, self._watch("evaluation"))
                    if self._step % options.checkpoint_every == 0:
                        self._save()
                reason = self._reason_to_stop()
                after = self._examiner.measure(self._step, self._watch("evaluation"))
            except InterruptedRunError as error:
                self._save()
                raise InterruptedRunError(
                    f"interrupted after step {self._step} of {options.steps}; "
                    f"go on with: turnhalle train --resume {self.folder}"
                ) from error
        self._save()
        return RunResult(self.folder, self._home.export(), before, after, reason)

    def close(self) -> None:
        """Close the store and the engine."""
        self._store.close()
        self._engine.shutdown()

    def _go_on(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Put back what a checkpoint holds besides the adapter."""
        load_learner(checkpoint, self._learner)
        self._learner.micro_batch_tokens = state["micro_batch_tokens"]
        if self.options.curriculum and "curriculum" in state:
            self._curriculum = Curriculum.from_json(self.options.curriculum, state["curriculum"])

    def _train_step(self, step: int) -> None:
        """One step: rollouts, credit, update, record."""
        options = self.options
        started = time.perf_counter()
        self._policy.drift.clear()
        groups, metrics = self._sampler.play(step, self._curriculum, self._watch(f"step {step}"))
        sampled = time.perf_counter()

        batch, prepared = self._learner.prepare(lay_out(groups))
        episodes, batch = self._shape(step, groups, batch)
        credit = assign_credit(episodes, options.credit)
        metrics = rollout_metrics(groups, credit) | metrics | prepared
        metrics |= {f"drift/{name}": float(n) for name, n in self._policy.drift.items() if n}
        if episodes.values is not None and credit.value_targets is not None:
            metrics |= critic_metrics(episodes.values, credit.value_targets)

        batch = batch.with_credit(credit)
        if batch.num_rows:
            if not self._is_parity_checked or step % options.engine.parity_every == 0:
                metrics["parity"] = self._learner.check_parity(batch)
                self._is_parity_checked = True
            rate = scheduled_rate(options.learn, step, options.steps)
            seed = derive_seed("update", options.seed, step)
            with self._engine.resting():
                update = self._learner.update(batch, rate, seed)
            metrics |= update.metrics | {"learning_rate": rate}
            self._faults.of_update(step, groups, update)
        metrics |= self._advance(groups)

        done = time.perf_counter()
        tokens = sum(t.num_tokens for group in groups for t in group.trajectories)
        metrics["time/rollout"], metrics["time/update"] = sampled - started, done - sampled
        metrics["time/tokens_per_second"] = tokens / (done - started)
        self._step = step
        self._engine.load_adapter(step, self._lm.trainable())
        self._store.write_step(step, metrics, step_records(groups, credit))
        self._faults.of_episodes(step, groups)
        self.listener.step(step, metrics)

    def _shape(self, step: int, groups: Sequence[Group], batch: Batch) -> tuple[Episodes, Batch]:
        """What credit looks at: rewards after prices, values of the critic, nothing unusable."""
        options = self.options
        episodes = read_episodes(groups)
        if unusable := batch.unusable():
            rows = batch.episode[unusable].tolist()
            self._faults.of_scores(step, groups, rows)
            episodes = leave_out(episodes, rows)
            batch = batch.without(unusable)
        shape = episodes.rewards.shape
        if options.overlong.buffer_tokens:
            longest = options.rollout.max_new_tokens
            episodes = pay(episodes, overlong_prices(groups, longest, options.overlong))
        if options.kl.weight and options.kl.place == "reward":
            episodes = pay(episodes, kl_prices(batch, shape, options.kl))
        if options.credit.needs_values:
            episodes = episodes.with_values(self._learner.values(batch, shape))
        return episodes, batch

    def _advance(self, groups: Sequence[Group]) -> dict[str, float]:
        """Move the curriculum on; the difficulty that the step had."""
        before = self._curriculum
        if before is None:
            return {}
        self._curriculum = before.after(groups)
        if self._curriculum.level > before.level:
            self.listener.note(f"difficulty rises to {self._curriculum.level}")
        return {"difficulty": float(before.level)}

    def _reason_to_stop(self) -> str | None:
        reason = reason_to_stop(self._store.metrics, self.options.stop) if self._step else None
        event = (self._step, "early_stop", reason)
        if reason is not None and event not in self._store.events():
            self._store.write_event(*event[:2], reason)
            self.listener.note(f"stopping early: {reason}")
        return reason

    def _watch(self, what: str) -> Watch:
        def watch(done: int, total: int) -> bool:
            self.listener.progress(what, done, total)
            return self._stop.is_asked

        return watch

    def _warn(self, text: str) -> None:
        self._store.write_event(self._step, "warning", text)
        self.listener.note(text)

    def _save(self) -> Path:
        state: dict[str, Any] = {
            "step": self._step,
            "micro_batch_tokens": self._learner.micro_batch_tokens,
            "failed_updates": self._faults.in_a_row,
        }
        if self._curriculum is not None:
            state["curriculum"] = self._curriculum.to_json()
        return self._home.save(state, self._learner, self.options.keep_checkpoints)


def _open_environments(options: TrainOptions) -> list[EnvFactory]:
    """The environments, after a task of each split and difficulty that the run will ask for."""
    factories = [part.factory() for part in (options.env, *(m.env for m in options.mix))]
    asked: list[Any] = [(f, {"split": s, "task": 0}) for f in factories for s in ("train", "eval")]
    if options.curriculum:
        levels = (options.curriculum.first, options.curriculum.last)
        asked += [(factories[0], {"task": 0, "difficulty": level}) for level in levels]
    for factory, task in asked:
        with closing(factory.open()) as env:
            env.reset(options=task)
    return factories


def _check_context(options: TrainOptions) -> None:
    asked = options.rollout.max_context
    if asked is None:
        return
    known = context_limit(options.model.name)
    if asked > known:
        raise ConfigError(
            f"rollout.max_context = {asked}, but {options.model.name} knows {known} positions; "
            f"set it to {known} or less, or leave it out"
        )


def _low_success(before: Evaluation, options: TrainOptions) -> str:
    return (
        f"success before training is {before.success.percent()}: below "
        f"{100 * LOW_SUCCESS:.0f} % almost every group of episodes has equal rewards, and there is "
        "nothing to learn from. Let the policy imitate the oracle first: "
        f"turnhalle prime --env {options.env.id} --model {options.model.name}"
    )
