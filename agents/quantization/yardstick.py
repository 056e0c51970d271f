"""How far a policy's next-token distributions are from another's, on the text that matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from turnhalle.envs.errors import DataError
from turnhalle.envs.registry import EnvFactory

from ..core import Trajectory
from ..lm import LanguageModel
from ..policy import Policy
from ..rollout import Job, rollout
from ..tree import branches

_BATCH_TOKENS = 4096
_CHUNK_LOGITS = 2**25
"""Most logits held at a time."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A sequence of tokens, and which of them count."""

    token_ids: list[int]
    """`[T]`"""
    is_scored: list[bool]
    """`[T]` tokens whose prediction matters: those that the policy writes."""


class Yardstick:
    """The next-token distributions of a reference, on some passages."""

    def __init__(self, reference: LanguageModel, passages: Sequence[Passage]) -> None:
        """Keep the reference's hidden states of the scored tokens; its logits are made anew.

        Raises:
            DataError: No token is scored.
        """
        self._reference, self._batches = reference, list(_batches(passages))
        self.num_tokens = sum(sum(passage.is_scored[1:]) for passage in passages)
        """Number of scored tokens."""
        if not self.num_tokens:
            raise DataError("the text has no token to predict")
        self._states = [_states(reference, ids, scored) for ids, scored in self._batches]

    @torch.no_grad()
    def kl(self, lm: LanguageModel) -> float:
        """Mean KL divergence of a model from the reference, in nats a token."""
        total = 0.0
        for states, (ids, scored) in zip(self._states, self._batches, strict=True):
            rows = max(1, _CHUNK_LOGITS // lm.config.vocab_size)
            pairs = zip(states.split(rows), _states(lm, ids, scored).split(rows), strict=True)
            for ours, theirs in pairs:
                p = self._reference.head(ours).float().log_softmax(-1)
                q = lm.head(theirs).float().log_softmax(-1)
                total += float((p.exp() * (p - q)).sum(dtype=torch.float64))
        return total / self.num_tokens


def passages_of(trajectories: Sequence[Trajectory]) -> list[Passage]:
    """What was played, as text of which the sampled tokens count."""
    passages = []
    for branch in (b for trajectory in trajectories for b in branches(trajectory)):
        sampled = set(branch.position.tolist())
        is_scored = [position in sampled for position in range(len(branch.token_ids))]
        passages.append(Passage(branch.token_ids.tolist(), is_scored))
    return passages


def play(factory: EnvFactory, policy: Policy, episodes: int) -> list[Passage]:
    """Let a policy play training tasks: the text that it is going to meet."""
    jobs = [Job("train", index, 0, 0) for index in range(episodes)]
    return passages_of(rollout(factory, policy, jobs))


@torch.no_grad()
def _states(lm: LanguageModel, ids: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Hidden states `[M, H]` that predict the scored tokens."""
    return lm.hidden_states(ids.to(lm.device))[:, :-1][scored[:, 1:].to(lm.device)]


def _batches(passages: Sequence[Passage]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and what is scored, `[B, T]` each, padded on the right."""
    ordered = sorted(passages, key=lambda passage: len(passage.token_ids))
    batch: list[Passage] = []
    for passage in ordered:
        if batch and (len(batch) + 1) * len(passage.token_ids) > _BATCH_TOKENS:
            yield _padded(batch)
            batch = []
        batch.append(passage)
    if batch:
        yield _padded(batch)


def _padded(batch: Sequence[Passage]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = len(batch[-1].token_ids)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    scored = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, passage in enumerate(batch):
        ids[row, : len(passage.token_ids)] = torch.tensor(passage.token_ids)
        scored[row, : len(passage.is_scored)] = torch.tensor(passage.is_scored)
    return ids, scored
