"""The learner: a batch in, one update of the adapter out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from turnhalle.agents.engines.parity import require_parity
from turnhalle.agents.lm import LanguageModel
from turnhalle.agents.ranks import ALONE, World
from turnhalle.envs.errors import EngineError
from turnhalle.envs.seeding import derive_rng

from .batch import Batch
from .faults import NotFiniteError, is_out_of_memory, not_finite
from .learn_options import LearnOptions
from .losses.correction import truncation_metrics
from .metrics import add_up
from .objective import Objective, corrected
from .packing import Packing
from .reference import Reference
from .scoring import score, score_all
from .sharing import Sharing, by_kind, clip_gradient
from .value import ValueHead

Value = TypeVar("Value")


@dataclass(slots=True)
class Update:
    """What an update came to."""

    metrics: dict[str, float]
    """Means over the rows, or over the optimizer steps; none where no step was taken."""
    dropped: list[int] = field(default_factory=list)
    """Episodes that were left out: their log-probs were no numbers."""
    blamed: list[int] = field(default_factory=list)
    """Episodes whose gradient was no number; the optimizer step was skipped."""
    num_skipped: int = 0
    """Optimizer steps that were skipped."""
    notes: list[tuple[str, str]] = field(default_factory=list)
    """What else happened: the kind of the event, and its text."""


class Learner:
    """Updates the adapter of a model by policy gradients."""

    def __init__(
        self,
        lm: LanguageModel,
        options: LearnOptions,
        temperature: float,
        objective: Objective | None = None,
        reference: Reference | None = None,
        world: World = ALONE,
    ) -> None:
        """Prepare the optimizer.

        Args:
            lm: The model; only its trainable parameters are changed.
            options: How.
            temperature: That the tokens are sampled at: it is part of the policy.
            objective: What is descended; plain PPO by default.
            reference: The policy that training started from, where the objective names a price.
            world: The processes that compute an update together; all are given the same batches.

        Raises:
            ConfigError: The base cannot be sharded.
        """
        self.lm, self.options, self.temperature = lm, options, temperature
        self.objective = objective or Objective()
        self.reference = reference
        self._sharing = Sharing(lm, world, options.shard)
        self.micro_batch_tokens = options.micro_batch_tokens
        self.packing = Packing(lm, options.packing)
        self._notes: list[tuple[str, str]] = []
        with self._sharing.apart():
            self.parameters = list(lm.trainable().values())
        value = self.objective.value
        self.critic = None if value is None else ValueHead(int(lm.config.hidden_size), lm.device)
        groups: list[dict[str, object]] = [{"params": kind} for kind in by_kind(self.parameters)]
        if self.critic is not None and value is not None:
            groups.append({"params": list(self.critic.parameters()), "peak": value.learning_rate})
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=options.learning_rate,
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Everything that an update changes, by name."""
        critic = {} if self.critic is None else dict(self.critic.named_parameters())
        return self.lm.trainable() | {f"critic.{name}": p for name, p in critic.items()}

    def prepare(self, batch: Batch) -> tuple[Batch, dict[str, float]]:
        """Score what the objective needs of the policies before the update.

        Returns:
            The batch with old and reference log-probs and weights, and metrics of them.
        """
        if not batch.num_rows:
            return batch, {}
        metrics = truncation_metrics(torch.from_numpy(batch.weight))
        if self.objective.correction.level is not None:
            batch = replace(batch, old_logprob=self._score_all(batch))
            batch, corrections = corrected(batch, self.objective.correction)
            metrics |= corrections
        if self.reference is not None:
            with self.reference.in_force():
                batch = replace(batch, ref_logprob=self._score_all(batch))
        return batch, metrics

    def values(self, batch: Batch, shape: tuple[int, int]) -> NDArray[np.float64]:
        """What the critic expects before each turn, as `[E, K]`; 0 where the batch has no turn."""
        values, first = np.zeros(shape), batch.is_first
        if batch.num_rows:
            episode = batch.episode[batch.sequence[first]]
            values[episode, batch.turn[first]] = self._score_all(batch, of_turns=True)
        return values

    def update(self, batch: Batch, learning_rate: float, seed: int) -> Update:
        """Train on a batch."""
        self._set_rate(learning_rate)
        with self._sharing.apart():
            return self._update(batch, seed)

    def _update(self, batch: Batch, seed: int) -> Update:
        done = Update({})
        totals: list[dict[str, float]] = []
        norms: list[float] = []
        rows = 0
        for epoch in range(self.options.epochs):
            for part in self._minibatches(batch, seed, epoch):
                part, sums = self._gradient(part, done)
                norm = self._clip()
                if not np.isfinite(norm):
                    done.num_skipped += 1
                    done.blamed += self._blame(part)
                    continue
                self.optimizer.step()
                norms.append(norm)
                rows += part.num_rows
                totals.append(sums)
        if rows:
            sums = add_up(totals)
            saved = 1.0 - sums.pop("nodes") / sums.pop("tokens")
            done.metrics = {name: value / rows for name, value in sums.items()}
            done.metrics["tokens_saved"] = saved
            done.metrics["grad_norm"] = sum(norms) / len(norms)
        done.notes, self._notes = self._notes, []
        done.notes += [("packing", note) for note in self.packing.take_notes()]
        return done

    @torch.no_grad()
    def check_parity(self, batch: Batch) -> float:
        """Compare the trainer's log-probs with the engine's on real tokens.

        Returns:
            The largest difference, in nats.

        Raises:
            EngineError: They disagree: what is sampled is not what is trained.
        """
        return require_parity(
            self.lm,
            torch.from_numpy(batch.sampler_logprob),
            lambda: torch.from_numpy(self._score_all(batch)),
        )

    def _set_rate(self, learning_rate: float) -> None:
        """The schedule moves the rates of adapter and critic alike."""
        for group in self.optimizer.param_groups:
            peak = group.get("peak")
            share = learning_rate / self.options.learning_rate
            group["lr"] = learning_rate if peak is None else peak * share

    def _minibatches(self, batch: Batch, seed: int, epoch: int) -> list[Batch]:
        count = min(self.options.minibatches, len(batch.sequences))
        order = list(range(len(batch.sequences)))
        derive_rng("minibatches", seed, epoch).shuffle(order)
        return [batch.select(part.tolist()) for part in np.array_split(order, count)]

    def _gradient(self, minibatch: Batch, done: Update) -> tuple[Batch, dict[str, float]]:
        """Compute the gradient of a minibatch, without what cannot be used, within the memory."""
        while True:
            work = partial(self._accumulate, minibatch)
            try:
                return minibatch, self._within_memory(minibatch, work)
            except NotFiniteError as error:
                done.dropped += [int(minibatch.episode[i]) for i in error.sequences]
                minibatch = minibatch.without(error.sequences)

    def _accumulate(self, minibatch: Batch) -> dict[str, float]:
        """Add up the gradient of a minibatch over all ranks; sums over its rows.

        Raises:
            NotFiniteError: Of some sequences, on any rank.
        """
        self.optimizer.zero_grad(set_to_none=True)
        shares = self._sharing.compute(lambda: self._own_gradient(minibatch))
        if bad := [i for _, of_rank in shares for i in of_rank]:
            raise NotFiniteError(bad)
        self._sharing.add_gradients(self.optimizer)
        return add_up(sums for sums, _ in shares)

    def _own_gradient(self, minibatch: Batch) -> tuple[dict[str, float], list[int]]:
        """Add up this rank's gradient; sums over its rows, and sequences that are no numbers."""
        sums: list[dict[str, float]] = []
        bad: list[int] = []
        for chosen in self._parts(minibatch):
            if not chosen:
                self._sharing.keep_step()
                continue
            part = minibatch.select(chosen)
            scores = score(self.lm, part, self.temperature, self.critic, self.packing.layout)
            bad += not_finite(scores, part, chosen)
            total, part_sums = self.objective.of_part(part, scores, minibatch)
            total.backward()
            sums.append(part_sums | {"nodes": scores.num_nodes, "tokens": part.num_tokens})
        return add_up(sums), bad

    def _clip(self) -> float:
        """Clip the gradient; its norm before that. The critic's head never crowds out the trunk."""
        bound = self.options.max_grad_norm
        norm = clip_gradient(self.parameters, bound)
        if self.critic is None:
            return norm
        of_critic = clip_gradient(list(self.critic.parameters()), bound)
        return norm if np.isfinite(of_critic) else of_critic

    def _blame(self, minibatch: Batch) -> list[int]:
        """The episodes of a minibatch whose own gradient is no number."""
        blamed = []
        for i, episode in enumerate(minibatch.episode.tolist()):
            self._accumulate(minibatch.select([i]))
            if not np.isfinite(self._clip()):
                blamed.append(episode)
        self.optimizer.zero_grad(set_to_none=True)
        return blamed

    def _within_memory(self, batch: Batch, work: Callable[[], Value]) -> Value:
        """What passes over the parts of a batch come to, in smaller ones where memory runs out."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if self._sharing.is_in_step or not is_out_of_memory(error):
                    raise
                self._notes.append(("out_of_memory", self._halve(batch, error)))

    def _halve(self, batch: Batch, error: Exception) -> str:
        """Halve the micro-batch after memory ran out; what to tell.

        Raises:
            EngineError: A single sequence is too much.
        """
        longest = max(len(s) for s in batch.sequences)
        tried = min(self.micro_batch_tokens, longest * len(batch.sequences))
        if tried <= longest:
            raise EngineError(
                f"out of memory with a single sequence of {longest} tokens; set a lower "
                "rollout.max_context, or model.gradient_checkpointing = true"
            ) from error
        self.optimizer.zero_grad(set_to_none=True)
        self.micro_batch_tokens = max(1, tried // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return (
            f"out of memory: micro-batches are halved to {self.micro_batch_tokens} tokens "
            "(learn.micro_batch_tokens; the result stays the same)"
        )

    def _score_all(self, batch: Batch, of_turns: bool = False) -> NDArray[np.float32]:
        """Log-probs of the rows, or values of the turns."""

        def score_part(part: Batch) -> torch.Tensor:
            scores = score(self.lm, part, self.temperature, self.critic, self.packing.layout)
            chosen = scores.values if of_turns else scores.logprobs
            assert chosen is not None
            return chosen

        def score_own() -> list[NDArray[np.float32]]:
            parts = self._parts(batch)
            return self._sharing.compute(lambda: score_all(batch, parts, score_part, of_turns))

        scores = self._within_memory(batch, score_own)
        # Every row is one rank's; it is 0 on the others.
        total: NDArray[np.float32] = np.sum(scores, axis=0)
        return total

    def _parts(self, batch: Batch) -> list[list[int]]:
        return self._sharing.parts(batch.sequences, self.packing, self.micro_batch_tokens)
