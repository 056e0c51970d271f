"""The clipped loss: reference values, gradients, and what clipping cuts off."""

from __future__ import annotations

import math

import pytest
import torch

from turnhalle.training.losses import clipped


def loss(log_ratio: float, advantage: float) -> tuple[float, float]:
    """Loss and its gradient for one row."""
    logprob = torch.tensor([log_ratio], dtype=torch.float64, requires_grad=True)
    old = torch.zeros(1, dtype=torch.float64)
    rows = clipped(logprob, old, torch.tensor([advantage], dtype=torch.float64), 0.2, 0.3)
    rows.loss.sum().backward()
    assert logprob.grad is not None
    return rows.loss.item(), logprob.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.6, 0.0),  # above 1 + clip_high: cut off
        (0.5, 2.0, -1.0, -1.0),  # too low but wanted higher: goes on
        (0.5, -2.0, 1.6, 0.0),  # below 1 - clip_low: cut off
        (1.5, -2.0, 3.0, 3.0),
        (1.0, 0.0, 0.0, 0.0),
    ],
)
def test_values_by_hand(ratio: float, advantage: float, value: float, gradient: float) -> None:
    assert loss(math.log(ratio), advantage) == pytest.approx((value, gradient), abs=1e-12)


def test_the_first_step_is_the_policy_gradient() -> None:
    """At ratio 1 the gradient is -A d log p: REINFORCE."""
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    tokens = torch.tensor([0, 1, 2, 3, 4, 0])
    advantages = torch.randn(6, dtype=torch.float64)
    logprobs = logits.log_softmax(-1)[torch.arange(6), tokens]
    rows = clipped(logprobs, logprobs.detach(), advantages, 0.2, 0.2)
    (ours,) = torch.autograd.grad(rows.loss.sum(), logits, retain_graph=True)
    (plain,) = torch.autograd.grad(-(advantages * logprobs).sum(), logits)
    assert torch.allclose(ours, plain, atol=1e-14)


def test_the_kl_estimate_is_unbiased_and_never_negative() -> None:
    """E_old[k3] = KL(old || new), by enumeration of a 5-token vocabulary."""
    generator = torch.Generator().manual_seed(0)
    old = torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(-1)
    new = torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(-1)
    rows = clipped(new, old, torch.zeros(5, dtype=torch.float64), 0.2, 0.2)
    assert (rows.kl >= 0).all()
    assert (old.exp() * rows.kl).sum().item() == pytest.approx(
        (old.exp() * (old - new)).sum().item()
    )


def test_clipped_rows_are_those_without_gradient() -> None:
    logprobs = torch.log(torch.tensor([0.5, 1.0, 1.5, 0.5, 1.5]))
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    rows = clipped(logprobs, torch.zeros(5), advantages, 0.2, 0.2)
    assert rows.is_clipped.tolist() == [False, False, True, True, False]


def test_a_stale_token_cannot_overflow() -> None:
    rows = clipped(torch.tensor([500.0]), torch.zeros(1), torch.tensor([-1.0]), 0.2, 0.2)
    assert torch.isfinite(rows.loss).all()
    assert torch.isfinite(rows.kl).all()
