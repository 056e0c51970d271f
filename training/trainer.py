"""The training loop: play groups of episodes, credit their turns, update the adapter, repeat.

Everything random is derived by hash from the run's seed and the step, so a run that is stopped and
resumed is the run that was never stopped: on a CPU bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnhalle.agents.chat import load_chat
from turnhalle.agents.core import Group
from turnhalle.agents.evaluate import Evaluation
from turnhalle.agents.models import load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.ranks import ALONE, World
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import InterruptedRunError
from turnhalle.envs.seeding import derive_seed

from .batch import Batch, lay_out
from .card import write_adapter_card
from .checkpoint import best_step, load_behind, load_learner
from .checks import check_context, low_success, open_environments
from .credit.assign import assign_credit
from .credit.episodes import Episodes, read_episodes
from .curriculum import Curriculum
from .fault_log import FaultLog
from .interrupt import StopRequest
from .learn_options import scheduled_rate
from .learner import Learner
from .measure import Examiner
from .metrics import critic_metrics, rollout_metrics, staleness
from .options import TrainOptions
from .progress import Listener
from .records import step_records
from .reference import Reference
from .rollouts import Rollouts
from .run_folder import RunFolder
from .shaping import kl_prices, leave_out, overlong_prices, pay
from .sharing import check_ranks
from .stopping import reason_to_stop
from .unkept import Unkept


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
        self,
        options: TrainOptions,
        folder: Path,
        listener: Listener,
        *,
        resume: bool = False,
        world: World = ALONE,
    ) -> None:
        """Prepare a run.

        Args:
            options: What to do; a resumed run is given its own.
            folder: Where the run lives.
            listener: Who is told.
            resume: Go on from the last good checkpoint in `folder`.
            world: The processes that train together; all are given the same.

        Raises:
            ConfigError: Options that cannot work.
            ModelError: A model that cannot be used.
            StoreError: The folder holds a run already, or none to resume, or only broken ones.
        """
        options.check()
        check_ranks(options, world)
        self.options, self.folder, self.listener = options, folder, listener
        self._world, playing = world, world.another()
        factories = open_environments(options)
        check_context(options)
        self._home = RunFolder(folder, options, resume=resume)
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
        for note in self._lm.notes:
            listener.note(note)
        self._stop = StopRequest(listener)
        self._rollouts = Rollouts(
            options, factories, self._lm, chat, listener, self._stop, folder, playing
        )
        self._store = self._begin_store(start, resume)
        reference = Reference(self._lm, start) if options.kl.weight else None
        temperature, objective = options.rollout.temperature, options.objective
        self._learner = Learner(self._lm, options.learn, temperature, objective, reference, world)
        self._faults = FaultLog(self._store, listener, state.get("failed_updates", 0))
        if self._home.checkpoint is not None:
            self._go_on(self._home.checkpoint, state)
        self._store.forget_after(self._step)
        self._faults.of_checkpoints(self._step, self._home.broken)
        policy = self._rollouts.policy
        self._examiner = Examiner(factories, policy, options, self._store, listener, playing)
        self._is_parity_checked = False

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
                before = self._measure(0)
                if warning := low_success(before, options):
                    self._world.first(lambda: self._say(0, "warning", warning))
                while self._step < options.steps:
                    if options.evaluate.every and self._step % options.evaluate.every == 0:
                        self._measure(self._step)  # where a resumed run has not
                    if self._reason_to_stop() is not None:
                        break
                    self._train_step(self._step + 1)
                    if self._step % options.checkpoint_every == 0:
                        self._save()
                reason = self._reason_to_stop()
                self._rollouts.drop()
                after = self._measure(self._step)
            except InterruptedRunError as error:
                self._save()
                raise InterruptedRunError(
                    f"interrupted after step {self._step} of {options.steps}; "
                    f"go on with: turnhalle train --resume {self.folder}"
                ) from error
            finally:
                self._rollouts.drop()
        self._save()
        adapter = self._world.first(lambda: self._export(before, after))
        return RunResult(self.folder, adapter, before, after, reason)

    def close(self) -> None:
        """Close the store and the engine."""
        self._store.close()
        self._rollouts.engine.shutdown()

    def _begin_store(self, start: Path | None, resume: bool) -> RunStore:
        """Open what the first rank writes."""
        # Nobody writes into the folder before all have seen what is there.
        self._world.exchange(None)
        if not self._world.is_first:
            return Unkept()
        store = RunStore(self.folder, create=not resume)
        # Whatever kills the run from here on, it can be resumed.
        store.put("options", self.options.model_dump(mode="json"))
        self._home.keep_start(start)
        self._home.put_aside(store.metrics("eval/success"))
        return store

    def _train_step(self, step: int) -> None:
        """One step: rollouts, credit, update, record."""
        options = self.options
        started = time.perf_counter()
        played = self._rollouts.batch(step)
        groups, taken = played.groups, time.perf_counter()

        batch, prepared = self._learner.prepare(lay_out(groups))
        episodes, batch = self._shape(step, groups, batch)
        credit = assign_credit(episodes, options.credit)
        metrics = rollout_metrics(groups, credit) | played.metrics | prepared
        metrics |= staleness(groups, step - 1)
        if episodes.values is not None and credit.value_targets is not None:
            metrics |= critic_metrics(episodes.values, credit.value_targets)

        batch = batch.with_credit(credit)
        if batch.num_rows:
            if not self._is_parity_checked or step % options.engine.parity_every == 0:
                with played.by.in_force(self._lm):
                    metrics["parity"] = self._learner.check_parity(batch)
                self._is_parity_checked = True
            rate = scheduled_rate(options.learn, step, options.steps)
            seed = derive_seed("update", options.seed, step)
            with self._rollouts.resting():
                update = self._learner.update(batch, rate, seed)
            metrics |= update.metrics | {"learning_rate": rate}
            self._faults.of_update(step, groups, update)

        done = time.perf_counter()
        tokens = sum(t.num_tokens for group in groups for t in group.trajectories)
        metrics["time/update"] = done - taken
        metrics["time/tokens_per_second"] = tokens / (done - started)
        self._step = step
        self._store.write_step(step, metrics, step_records(groups, credit))
        self._rollouts.finished(step)
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
            episodes = pay(episodes, kl_prices(batch, episodes, options.kl))
        if options.credit.needs_values:
            episodes = episodes.with_values(self._learner.values(batch, shape))
        return episodes, batch

    def _measure(self, step: int) -> Evaluation:
        """Evaluate the adapter as it is, or recall what was measured after the step."""
        self._rollouts.follow(self._step)
        done = self._examiner.measure(step, self._stop.watch("evaluation"))
        is_new = self._step == step > 0 and self._world.is_first
        if is_new and best_step(self._store.metrics("eval/success")) == step:
            self._save()
        return done

    def _reason_to_stop(self) -> str | None:
        return self._world.first(self._find_reason)

    def _find_reason(self) -> str | None:
        reason = reason_to_stop(self._store.metrics, self.options.stop) if self._step else None
        if reason is not None:
            self._say(self._step, "early_stop", reason, "stopping early: ")
        return reason

    def _say(self, step: int, kind: str, text: str, lead: str = "") -> None:
        """Write an event down and tell it, once in the life of the run."""
        if (step, kind, text) not in self._store.events():
            self._store.write_event(step, kind, text)
            self.listener.note(f"{lead}{text}")

    def _save(self) -> None:
        if not self._world.is_first:
            return
        rollouts = self._rollouts
        state: dict[str, Any] = {
            "step": self._step,
            "micro_batch_tokens": self._learner.micro_batch_tokens,
            "failed_updates": self._faults.in_a_row,
        }
        if rollouts.curriculum is not None:
            state["curriculum"] = rollouts.curriculum.to_json()
        self._home.save(state, self._learner, rollouts.behind)
        self._home.prune(self.options.keep_checkpoints, self._store.metrics("eval/success"))

    def _export(self, before: Evaluation, after: Evaluation) -> Path:
        """Put the adapter, with its card, where people look for it."""
        adapter, start = self._home.export(), self._home.start(self.options.start_from)
        write_adapter_card(adapter, self.options, start, self._step, before, after)
        return adapter

    def _go_on(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Put back what a checkpoint holds besides the adapter."""
        load_learner(checkpoint, self._learner)
        self._learner.micro_batch_tokens = state["micro_batch_tokens"]
        if self.options.rollout.lookahead:
            self._rollouts.behind = load_behind(checkpoint)
        if self.options.curriculum and "curriculum" in state:
            curriculum = Curriculum.from_json(self.options.curriculum, state["curriculum"])
            self._rollouts.curriculum = curriculum
