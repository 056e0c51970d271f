"""Tokens sampled among the likely ones only (top-k, top-p): what their weights make up for.

By enumeration over a vocabulary of five, with the kept sets and masses of the engine itself.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from turnhalle.agents.engines.sampling import truncate
from turnhalle.training.losses.correction import (
    CorrectionOptions,
    correction_metrics,
    correction_weights,
    truncation_metrics,
)
from turnhalle.training.losses.options import LossOptions
from turnhalle.training.losses.ppo import ppo
from turnhalle.training.losses.rows import Rows

LOGITS = torch.tensor([0.3, -1.0, 0.7, 0.0, -0.4], dtype=torch.float64)
WORTH = torch.tensor([1.0, -2.0, -0.5, 2.0, 0.3], dtype=torch.float64)
TOKEN = CorrectionOptions(level="token")
TOP: list[dict[str, Any]] = [{"top_p": 0.6}, {"top_p": 0.9}, {"top_k": 2}, {"top_p": 1.0}]


def kept(logits: torch.Tensor, top_k: int = 5, top_p: float = 1.0) -> tuple[torch.Tensor, float]:
    """Log-probs that the engine samples with, -inf for what it leaves out, and the kept mass."""
    left, mass = truncate(
        logits[None].detach(),
        torch.ones(1),
        torch.tensor([top_k]),
        torch.tensor([top_p], dtype=torch.float64),
    )
    return left[0].double().log_softmax(0), float(mass[0])


def one_token(sampler: torch.Tensor, mass: float, level: Any = "token") -> torch.Tensor:
    """`[V]` weights of the tokens, where the engine computes what the trainer does."""
    old = LOGITS.log_softmax(0)
    log_ratio = old - sampler  # as recorded: of the distribution that was sampled
    like_with_like = log_ratio[sampler.isfinite()] - torch.tensor(mass).log()
    assert like_with_like.abs().max() < 1e-6
    number = torch.arange(5)
    options = CorrectionOptions(level=level)
    return correction_weights(log_ratio.clamp(-9, 9), number, number, options)


@pytest.mark.parametrize("top", TOP)
@pytest.mark.parametrize("name", ["ppo", "gspo", "cispo", "sapo", "reinforce"])
def test_the_expected_gradient_is_the_policy_s_over_what_was_kept(
    name: Any, top: dict[str, Any]
) -> None:
    """It lacks what was left out, exactly, and nothing else."""
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(0)
    sampler, mass = kept(logits, **top)
    is_kept = sampler.isfinite()
    assert int(is_kept.sum()) == {0.6: 2, 0.9: 4, 1.0: 5}.get(top.get("top_p", 0), 2)
    number = torch.arange(5)
    rows = Rows(logprobs, logprobs.detach(), WORTH, number, number)
    loss = LossOptions(name=name).policy_loss(rows).loss * one_token(sampler, mass)
    found = torch.autograd.grad((sampler.exp() * loss).sum(), logits, retain_graph=True)[0]

    def gradient(of: torch.Tensor) -> torch.Tensor:
        value = (logprobs.exp() * WORTH * of).sum()
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    assert torch.allclose(-found, gradient(is_kept), atol=1e-6)
    assert torch.allclose(-found + gradient(~is_kept), gradient(torch.ones(5)), atol=1e-6)


def test_it_holds_for_a_policy_that_has_moved_on() -> None:
    """The surrogate of a second minibatch: the kept set stays that of the sampler."""
    logits = torch.tensor([0.1, -0.8, 0.9, 0.2, -0.6], dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(0)
    sampler, mass = kept(LOGITS, top_p=0.8)
    number = torch.arange(5)
    rows = Rows(logprobs, LOGITS.log_softmax(0), WORTH, number, number)
    loss = ppo(rows, 0.99, 99.0).loss * one_token(sampler, mass)
    found = torch.autograd.grad((sampler.exp() * loss).sum(), logits, retain_graph=True)[0]
    value = (logprobs.exp() * WORTH)[sampler.isfinite()].sum()
    assert torch.allclose(-found, torch.autograd.grad(value, logits)[0], atol=1e-6)


def test_full_sequence_weights_are_exact_over_two_tokens() -> None:
    """The second token's distribution, and what is kept of it, hang on the first."""
    second = torch.stack([LOGITS.roll(shift) * (1 + shift / 3) for shift in range(5)])
    first, first_mass = kept(LOGITS, top_p=0.7)
    worth = torch.outer(WORTH, WORTH.flip(0)) + 0.3
    wanted, found, uncorrected = 0.0, 0.0, 0.0
    for a, b in itertools.product(range(5), repeat=2):
        sampler, mass = kept(second[a], top_p=0.7)
        chance = float((first[a] + sampler[b]).exp())
        if not chance:
            continue
        policy = torch.stack([LOGITS.log_softmax(0)[a], second[a].log_softmax(0)[b]])
        log_ratio = policy - torch.stack([first[a], sampler[b]])
        options = CorrectionOptions(level="sequence")
        weight = correction_weights(log_ratio, torch.zeros(2), torch.zeros(2), options)
        assert weight.tolist() == pytest.approx([first_mass * mass] * 2, rel=1e-6)
        wanted += float(policy.sum().exp() * worth[a, b])
        found += chance * float(weight[0] * worth[a, b])
        uncorrected += chance * float(worth[a, b])
    assert found == pytest.approx(wanted, rel=1e-6)
    assert abs(uncorrected - wanted) > 0.05


def test_an_exact_engine_is_no_mismatch_whatever_it_leaves_out() -> None:
    """Where log-probs are compared as they were sampled, tokens of the policy itself look stale."""
    sampler, mass = kept(LOGITS, top_p=0.6)
    chosen = sampler.isfinite()
    as_recorded = (LOGITS.log_softmax(0) - sampler)[chosen]
    like_with_like = as_recorded - torch.tensor(mass).log()
    masses = torch.full((int(chosen.sum()),), mass)
    assert correction_metrics(like_with_like, masses)["sampler/kl"] == pytest.approx(0, abs=1e-9)
    assert correction_metrics(as_recorded, masses)["sampler/kl"] > 0.05
    rows = Rows(LOGITS.log_softmax(0), sampler, WORTH, torch.arange(5), torch.arange(5))
    assert ppo(rows, 0.2, 0.2).is_clipped.any()  # at the very policy that sampled


def test_the_metrics_of_what_was_left_out_by_hand() -> None:
    assert truncation_metrics(torch.ones(4)) == {}
    found = truncation_metrics(torch.tensor([1.0, 0.5, 0.5, 1.0]))
    assert found == {"sampler/kept_mass": 0.75, "sampler/ess": pytest.approx(0.9)}
