"""The training loop: play groups of episodes, credit their turns, update the adapter, repeat.

Everything random is derived by hash from the run's seed and the step, so a run that is stopped and
resumed is the run that was never stopped: on a CPU bit for bit.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnhalle.agents.chat import load_chat
from turnhalle.agents.core import Group, Trajectory
from turnhalle.agents.engines.open import open_engine
from turnhalle.agents.engines.parity import require_adapter_in_force
from turnhalle.agents.evaluate import Evaluation, evaluate, recall
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Job, Watch, rollout_groups
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import InterruptedRunError, StoreError
from turnhalle.envs.seeding import derive_seed

from .batch import make_batch
from .checkpoint import checkpoint_state, list_checkpoints, load_optimizer, save_checkpoint
from .credit import Advantages, grpo
from .curriculum import Curriculum
from .interrupt import StopRequest
from .learner import Learner, scheduled_rate
from .metrics import rollout_metrics
from .options import TrainOptions
from .progress import Listener

LOW_SUCCESS = 0.05
"""Below this, most groups have no variance and there is nothing to learn from."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a finished run came to."""

    folder: Path
    adapter: Path
    before: Evaluation
    after: Evaluation


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
        self._factory = options.env.factory()
        for split in ("train", "eval"):
            self._factory().reset(options={"split": split, "task": 0})
        if options.curriculum:
            for difficulty in (options.curriculum.first, options.curriculum.last):
                self._factory().reset(options={"task": 0, "difficulty": difficulty})
        checkpoint = self._last_checkpoint(resume)
        self._step = 0 if checkpoint is None else checkpoint_state(checkpoint)["step"]
        chat = load_chat(options.model.name, options.chat)
        lora_seed = derive_seed("lora", options.seed)
        self._lm = load_model(options.model, adapter=checkpoint, lora_seed=lora_seed)
        tune_process(self._lm.num_parameters)
        self._engine = open_engine(options.engine, self._lm, options.rollout.max_context)
        require_adapter_in_force(self._lm, self._engine)
        self._engine.load_adapter(self._step, self._lm.trainable())
        self._policy = LLMPolicy(
            "policy",
            self._engine,
            chat,
            options.rollout.sampling(),
            options.rollout.max_concurrent,
            options.rollout.overlong,
        )
        self._learner = Learner(self._lm, options.learn, options.rollout.temperature)
        self._curriculum = Curriculum.begin(options.curriculum) if options.curriculum else None
        if checkpoint is not None:
            load_optimizer(checkpoint, self._learner)
            saved = checkpoint_state(checkpoint).get("curriculum")
            if options.curriculum and saved:
                self._curriculum = Curriculum.from_json(options.curriculum, saved)
        self._store = RunStore(folder, create=not resume)
        self._store.forget_after(self._step)
        self._store.put("options", options.model_dump(mode="json"))
        self._is_parity_checked = False
        self._stop = StopRequest(listener)

    def run(self) -> RunResult:
        """Train to the last step.

        Raises:
            InterruptedRunError: Ctrl-C; a checkpoint holds what is done, the message says how to
                go on.
        """
        options = self.options
        with self._stop.on_signals():
            try:
                before = self._evaluate(0)
                if before.success.value < LOW_SUCCESS:
                    self._warn(_low_success(before, options))
                while self._step < options.steps:
                    self._train_step(self._step + 1)
                    if options.evaluate.every and self._step % options.evaluate.every == 0:
                        self._evaluate(self._step)
                    if self._step % options.checkpoint_every == 0:
                        self._save()
                after = self._evaluate(options.steps)
            except InterruptedRunError as error:
                self._save()
                raise InterruptedRunError(
                    f"interrupted after step {self._step} of {options.steps}; "
                    f"go on with: turnhalle train --resume {self.folder}"
                ) from error
        self._save()
        return RunResult(self.folder, self._export(), before, after)

    def close(self) -> None:
        """Close the store and the engine."""
        self._store.close()
        self._engine.shutdown()

    def _train_step(self, step: int) -> None:
        """One step: rollouts, credit, update, record."""
        options = self.options
        started = time.perf_counter()
        groups = rollout_groups(
            self._factory,
            self._policy,
            self._jobs(step),
            options.rollout.group_size,
            self._watch(f"step {step}"),
            limits=options.rollout.limits,
            branch=options.rollout.branch,
        )
        sampled = time.perf_counter()
        credits = [grpo(group) for group in groups]
        metrics = rollout_metrics(groups, credits)
        if self._curriculum is not None:
            metrics["difficulty"] = float(self._curriculum.level)
            self._advance(self._curriculum.after(groups))
        batch = make_batch(groups, credits)
        if batch.num_rows:
            if not self._is_parity_checked or step % options.engine.parity_every == 0:
                metrics["parity"] = self._learner.check_parity(batch)
                self._is_parity_checked = True
            rate = scheduled_rate(options.learn, step, options.steps)
            seed = derive_seed("update", options.seed, step)
            with self._engine.resting():
                metrics |= self._learner.update(batch, rate, seed) | {"learning_rate": rate}
        done = time.perf_counter()
        tokens = sum(t.num_tokens for group in groups for t in group.trajectories)
        metrics["time/rollout"], metrics["time/update"] = sampled - started, done - sampled
        metrics["time/tokens_per_second"] = tokens / (done - started)
        self._step = step
        self._engine.load_adapter(step, self._lm.trainable())
        self._store.write_step(step, metrics, _records(groups, credits))
        self._report_errors(step, groups)
        self.listener.step(step, metrics)

    def _jobs(self, step: int) -> list[Job]:
        """The training tasks of a step: fresh ones every time."""
        seed, curriculum = self.options.seed, self._curriculum
        return [
            Job(
                "train",
                derive_seed("task", seed, step, number),
                seed=derive_seed("rollout", seed, step),
                difficulty=curriculum.difficulty(seed, step, number) if curriculum else None,
            )
            for number in range(self.options.rollout.tasks)
        ]

    def _advance(self, curriculum: Curriculum) -> None:
        if self._curriculum is not None and curriculum.level > self._curriculum.level:
            self.listener.note(f"difficulty rises to {curriculum.level}")
        self._curriculum = curriculum

    def _evaluate(self, step: int) -> Evaluation:
        """Measure the policy as it is, or recall the measurement where the step has one."""
        if step in self._store.evaluated_steps():
            return recall(self._store, step)
        result = evaluate(
            self._factory,
            self._policy,
            self.options.evaluate.tasks,
            seed=self.options.seed,
            watch=self._watch("evaluation"),
            limits=self.options.rollout.limits,
        )
        metrics = {"eval/success": result.success.value, "eval/return": result.mean_return}
        self._store.write_step(step, metrics, [("eval", t, None) for t in result.trajectories])
        self.listener.evaluation(step, result)
        return result

    def _watch(self, what: str) -> Watch:
        def watch(done: int, total: int) -> bool:
            self.listener.progress(what, done, total)
            return self._stop.is_asked

        return watch

    def _report_errors(self, step: int, groups: Sequence[Group]) -> None:
        failed = [t for group in groups for t in group.trajectories if t.error]
        for trajectory in failed:
            self._store.write_event(step, trajectory.stop, trajectory.error or "")
        if failed:
            what = f"{len(failed)} episodes failed and are masked, e.g.: {failed[0].error}"
            self.listener.note(what)

    def _warn(self, text: str) -> None:
        self._store.write_event(self._step, "warning", text)
        self.listener.note(text)

    def _last_checkpoint(self, resume: bool) -> Path | None:
        if not resume:
            if self.folder.exists() and any(self.folder.iterdir()):
                raise StoreError(
                    f"{self.folder} exists and is not empty; give another folder, or "
                    f"turnhalle train --resume {self.folder}"
                )
            return None
        found = list_checkpoints(self.folder / "checkpoints")
        return found[-1] if found else None

    def _save(self) -> Path:
        folder, keep = self.folder / "checkpoints", self.options.keep_checkpoints
        state: dict[str, Any] = {"step": self._step}
        if self._curriculum is not None:
            state["curriculum"] = self._curriculum.to_json()
        return save_checkpoint(folder, state, self._learner, keep)

    def _export(self) -> Path:
        """Copy the adapter of the last checkpoint to where people look for it."""
        checkpoint = list_checkpoints(self.folder / "checkpoints")[-1]
        adapter = self.folder / "adapter"
        adapter.mkdir(exist_ok=True)
        for path in checkpoint.glob("adapter_*"):
            shutil.copy2(path, adapter / path.name)
        return adapter


def _records(
    groups: Sequence[Group], credits: Sequence[Advantages | None]
) -> list[tuple[str, Trajectory, Sequence[float] | None]]:
    return [
        ("train", trajectory, None if credit is None else credit[number].tolist())
        for group, credit in zip(groups, credits, strict=True)
        for number, trajectory in enumerate(group.trajectories)
    ]


def _low_success(before: Evaluation, options: TrainOptions) -> str:
    return (
        f"success before training is {before.success.percent()}: below "
        f"{100 * LOW_SUCCESS:.0f} % almost every group of episodes has equal rewards, and there is "
        "nothing to learn from. Let the policy imitate the oracle first: "
        f"turnhalle prime --env {options.env.id} --model {options.model.name}"
    )
