"""Losses: what each one promises, closed forms, and the invariances of the normalisers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnhalle.envs.errors import ConfigError
from turnhalle.training.losses.cispo import cispo
from turnhalle.training.losses.correction import (
    CorrectionOptions,
    correction_metrics,
    correction_weights,
)
from turnhalle.training.losses.entropy import entropy_surrogate
from turnhalle.training.losses.gspo import gspo
from turnhalle.training.losses.kl import kl_estimate, kl_loss, kl_of_update
from turnhalle.training.losses.normalise import Normaliser
from turnhalle.training.losses.options import KlOptions, LossOptions
from turnhalle.training.losses.ppo import ppo
from turnhalle.training.losses.reinforce import reinforce
from turnhalle.training.losses.rows import MAX_LOG_RATIO, Rows
from turnhalle.training.losses.sapo import sapo

NAMES: list[Any] = ["ppo", "gspo", "cispo", "sapo", "reinforce"]


def rows_of(
    ratios: list[float], advantages: list[float], sequence: list[int] | None = None
) -> Rows:
    """Tokens with old log-prob -1 and these ratios, each a sequence of its own by default."""
    old = torch.full((len(ratios),), -1.0, dtype=torch.float64)
    number = torch.tensor(sequence or list(range(len(ratios))))
    new = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    return Rows(new, old, torch.tensor(advantages, dtype=torch.float64), number, number)


def random_rows(seed: int, count: int = 24, sequences: int = 5) -> Rows:
    generator = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(count, generator=generator, dtype=torch.float64)

    sequence = torch.randint(sequences, (count,), generator=generator).sort().values
    turn = sequence * 3 + torch.randint(3, (count,), generator=generator)
    old = -normal().abs()
    return Rows((old + 0.2 * normal()).requires_grad_(), old, normal(), sequence, turn)


def gradient(loss: torch.Tensor, rows: Rows) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss.sum(), rows.logprobs)
    return found


def test_ppo_inside_the_range_is_ratio_times_advantage() -> None:
    loss = ppo(rows_of([1.1, 0.9], [2.0, -1.0]), 0.2, 0.2)
    assert loss.loss.tolist() == pytest.approx([-2.2, 0.9])
    assert not loss.is_clipped.any()


def test_ppo_cuts_the_gradient_where_the_policy_moved_far_the_way_it_pays() -> None:
    rows = rows_of([1.5, 0.5, 1.5, 0.5], [1.0, -1.0, -1.0, 1.0])
    loss = ppo(rows, 0.2, 0.3)
    assert loss.loss.tolist() == pytest.approx([-1.3, 0.8, 1.5, -0.5])
    assert loss.is_clipped.tolist() == [True, True, False, False]
    assert gradient(loss.loss, rows).tolist() == pytest.approx([0, 0, 1.5, -0.5])


def test_the_dual_clip_bounds_what_a_bad_token_can_pull() -> None:
    rows = rows_of([5.0, 2.0, 5.0], [-1.0, -1.0, 1.0])
    loss = ppo(rows, 0.2, 0.2, dual_clip=3.0)
    assert loss.loss.tolist() == pytest.approx([3.0, 2.0, -1.2])
    assert loss.is_clipped.tolist() == [True, False, True]
    assert gradient(loss.loss, rows).tolist() == pytest.approx([0.0, 2.0, 0.0])


def test_gspo_has_one_ratio_a_sequence_of_geometric_means() -> None:
    rows = rows_of([1.2, 1.0 / 1.2, 1.21, 1.0], [1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1])
    loss = gspo(rows, 0.05, 0.05)
    assert loss.loss.tolist() == pytest.approx([-1.0, -1.0, -1.05, -1.05])
    assert loss.is_clipped.tolist() == [False, False, True, True]
    assert gradient(loss.loss, rows).tolist() == pytest.approx([-1.0, -1.0, 0.0, 0.0])


def test_gspo_by_turn_never_mixes_turns() -> None:
    rows = rows_of([1.21, 1.0, 0.9], [1.0, 1.0, 1.0], [0, 0, 0])
    by_turn = replace(rows, turn=torch.tensor([0, 0, 1]))
    assert gspo(by_turn, 0.2, 0.2, "turn").loss.tolist() == pytest.approx([-1.1, -1.1, -0.9])


def test_cispo_keeps_the_gradient_of_every_token() -> None:
    rows = rows_of([3.0, 0.2], [1.0, -2.0])
    loss = cispo(rows, clip_high=1.0)
    assert gradient(loss.loss, rows).tolist() == pytest.approx([-2.0, 0.4])
    assert loss.is_clipped.tolist() == [True, False]


def test_sapo_has_the_policy_gradient_at_ratio_one_and_fades_away_from_it() -> None:
    rows = rows_of([1.0, 1.0, 4.0], [1.0, -2.0, 1.0])
    found = gradient(sapo(rows, 1.0, 1.05).loss, rows)
    assert found[:2].tolist() == pytest.approx([-1.0, 2.0])
    p = 1 / (1 + math.exp(-3.0))
    assert found[2].item() == pytest.approx(-4.0 * 4 * p * (1 - p))


@pytest.mark.parametrize("name", NAMES)
def test_at_ratio_one_every_gradient_is_the_policy_gradient(name: Any) -> None:
    rows = rows_of([1.0] * 4, [1.0, -2.0, 0.5, 0.0], [0, 0, 1, 1])
    found = gradient(LossOptions(name=name).policy_loss(rows).loss, rows)
    assert torch.allclose(found, -rows.advantages)


@pytest.mark.parametrize("name", NAMES)
def test_log_ratios_that_would_overflow_stay_finite(name: Any) -> None:
    old = torch.tensor([-2000.0, 0.0, -5.0])
    new = torch.tensor([0.0, -2000.0, -5.0], requires_grad=True)
    number = torch.arange(3)
    rows = Rows(new, old, torch.tensor([-1.0, 1.0, 1.0]), number, number)
    loss = LossOptions(name=name).policy_loss(rows).loss
    assert torch.isfinite(loss).all()
    assert torch.isfinite(gradient(loss, rows)).all()
    assert kl_of_update(rows.log_ratio()).max() <= math.exp(MAX_LOG_RATIO)
    for estimator in ("k1", "k2", "k3"):
        assert torch.isfinite(kl_estimate(new, old, estimator)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_no_cut_of_an_update_changes_its_loss_or_gradient(
    name: Any, normaliser: Any, seed: int
) -> None:
    """Micro-batches, gradient accumulation, packing and the order of rows."""
    rows = random_rows(seed)
    options = LossOptions(name=name, normaliser=normaliser)
    divide = Normaliser(normaliser, len(rows.logprobs), len(rows.sequence.unique()), 7)
    counts = torch.bincount(rows.sequence)

    def share(part: Rows) -> torch.Tensor:
        return divide.total(options.policy_loss(part).loss, counts[part.sequence])

    def pick(chosen: torch.Tensor) -> Rows:
        columns = {f: getattr(rows, f)[chosen] for f in Rows.__slots__}
        return Rows(**columns)

    whole = share(rows)
    wanted = torch.autograd.grad(whole, rows.logprobs, retain_graph=True)[0]
    cut = rows.sequence < 2
    order = torch.randperm(len(rows.logprobs), generator=torch.Generator().manual_seed(seed))
    for parts in ([pick(cut), pick(~cut)], [pick(order)]):
        total = sum((share(part) for part in parts if len(part.logprobs)), torch.zeros(()))
        assert total.item() == pytest.approx(whole.item(), rel=1e-10, abs=1e-12)
        found = torch.autograd.grad(total, rows.logprobs)[0]
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_the_normalisers_by_hand() -> None:
    loss, of_episode = torch.tensor([1.0, 2.0, 6.0]), torch.tensor([2, 2, 1])
    assert Normaliser("token", 3, 2).total(loss, of_episode) == pytest.approx(3.0)
    assert Normaliser("sequence", 3, 2).total(loss, of_episode) == pytest.approx(3.75)
    assert Normaliser("constant", 3, 2, 10).total(loss, of_episode) == pytest.approx(0.45)


LOGITS = torch.tensor([0.3, -1.0, 0.7, 0.0, -0.4], dtype=torch.float64)
OLD = torch.tensor([0.1, -0.8, 0.9, 0.2, -0.6], dtype=torch.float64).log_softmax(0)
REF = torch.tensor([-0.5, 0.2, 0.4, 0.1, 0.0], dtype=torch.float64).log_softmax(0)


def expectation(values: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
    """Over the five tokens, with probabilities that carry no gradient: they are the sampler's."""
    return (logprobs.detach().exp() * values).sum()


def exact_kl(logits: torch.Tensor) -> torch.Tensor:
    logprobs = logits.log_softmax(0)
    return (logprobs.exp() * (logprobs - REF)).sum()


def kl_and_gradient(estimator: Any, is_weighted: bool) -> tuple[float, torch.Tensor]:
    """Expectation of the estimate and of its gradient, by enumeration over the vocabulary."""
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(0)
    sampler = OLD if is_weighted else logprobs.detach()
    none = torch.zeros(len(logprobs), dtype=torch.long)
    rows = Rows(logprobs, sampler, torch.zeros_like(sampler), none, none)
    mean = expectation(kl_loss(rows, REF, estimator, is_weighted), sampler)
    return mean.item(), torch.autograd.grad(mean, logits)[0]


def test_kl_estimates_by_enumeration() -> None:
    logits = LOGITS.clone().requires_grad_()
    kl = exact_kl(logits)
    true = torch.autograd.grad(kl, logits)[0]
    for estimator, is_weighted, is_value_right, is_gradient_right in (
        ("k1", False, True, False),
        ("k2", False, False, True),
        ("k3", False, True, False),
        ("k1", True, True, True),
        ("k2", True, False, True),
        ("k3", True, True, True),
    ):
        value, found = kl_and_gradient(estimator, is_weighted)
        assert (abs(value - kl.item()) < 1e-12) == is_value_right, estimator
        assert torch.allclose(found, true, atol=1e-12) == is_gradient_right, estimator
    assert torch.allclose(kl_and_gradient("k1", False)[1], torch.zeros_like(true), atol=1e-12)
    logprobs = LOGITS.log_softmax(0)
    assert (kl_estimate(logprobs, REF, "k2") >= 0).all()
    assert (kl_estimate(logprobs, REF, "k3") >= 0).all()


def test_the_entropy_surrogate_has_the_gradient_of_the_entropy() -> None:
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(0)
    entropy = -(logprobs.exp() * logprobs).sum()
    true = torch.autograd.grad(entropy, logits, retain_graph=True)[0]
    number = torch.arange(5)
    rows = Rows(logprobs, OLD, torch.zeros(5, dtype=torch.float64), number, number)
    surrogate = entropy_surrogate(rows, entropy.detach().expand(5))
    found = torch.autograd.grad(expectation(surrogate, OLD), logits)[0]
    assert torch.allclose(found, true, atol=1e-12)


def test_a_token_that_surprises_as_much_as_any_moves_no_entropy() -> None:
    """H is the baseline: where all tokens are as likely there is no noise at all."""
    logprobs = torch.full((5,), -math.log(5.0), dtype=torch.float64, requires_grad=True)
    number = torch.arange(5)
    rows = Rows(logprobs, logprobs.detach(), torch.zeros(5, dtype=torch.float64), number, number)
    surrogate = entropy_surrogate(rows, torch.full((5,), math.log(5.0), dtype=torch.float64))
    assert torch.allclose(
        gradient(surrogate, rows), torch.zeros(5, dtype=torch.float64), atol=1e-15
    )


@pytest.mark.parametrize("name", NAMES)
def test_on_a_softmax_bandit_the_gradient_is_the_analytic_one(name: Any) -> None:
    """On tokens of the policy itself, E[grad loss] = -grad E[reward], whatever the baseline."""
    logits = LOGITS.clone().requires_grad_()
    logprobs = logits.log_softmax(0)
    rewards = torch.tensor([1.0, 0.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    value = (logprobs.exp() * rewards).sum()
    true = torch.autograd.grad(value, logits, retain_graph=True)[0]
    number = torch.arange(5)
    for baseline in (0.0, 0.7):
        rows = Rows(logprobs, logprobs.detach(), rewards - baseline, number, number)
        loss = expectation(LossOptions(name=name).policy_loss(rows).loss, logprobs)
        found = torch.autograd.grad(loss, logits, retain_graph=True)[0]
        assert torch.allclose(found, -true, atol=1e-12)


def test_full_sequence_weights_make_up_for_another_sampler() -> None:
    """Two tokens of two: by enumeration the weighted gradient is that of the policy's samples."""
    policy = torch.tensor([[0.8, -0.2], [0.1, 0.4]], dtype=torch.float64).log_softmax(1)
    sampler = torch.tensor([[0.2, 0.1], [-0.3, 0.5]], dtype=torch.float64).log_softmax(1)
    rewards = {(0, 0): 1.0, (0, 1): -1.0, (1, 0): 0.5, (1, 1): 0.2}
    options = CorrectionOptions(level="sequence", high=1e9)
    true = sum(math.exp(float(policy[0, a] + policy[1, b])) * r for (a, b), r in rewards.items())
    mean = 0.0
    for a, b in itertools.product(range(2), repeat=2):
        log_ratio = torch.stack([policy[0, a] - sampler[0, a], policy[1, b] - sampler[1, b]])
        weights = correction_weights(log_ratio, torch.zeros(2), torch.zeros(2), options)
        mean += math.exp(float(sampler[0, a] + sampler[1, b])) * float(weights[0]) * rewards[a, b]
    assert mean == pytest.approx(true, rel=1e-12)


def test_correction_levels_by_hand() -> None:
    log_ratio = torch.tensor([0.1, 0.3, -0.2, 0.5])
    episode, turn = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 2])
    wanted = {
        "token": [0.1, 0.3, -0.2, 0.5],
        "turn": [0.4, 0.4, -0.2, 0.5],
        "geometric": [0.2 / 3] * 3 + [0.5],
        "sequence": [0.2] * 3 + [0.5],
    }
    for level, logs in wanted.items():
        options = CorrectionOptions(level=level, high=100.0)  # type: ignore[arg-type]
        found = correction_weights(log_ratio, episode, turn, options)
        assert found.log().tolist() == pytest.approx(logs, abs=1e-6), level
    options = CorrectionOptions(level="token", low=0.9, high=1.2)
    assert correction_weights(log_ratio, episode, turn, options).tolist() == pytest.approx(
        [math.exp(0.1), 1.2, 0.9, 1.2]
    )
    masked = correction_weights(
        log_ratio, episode, turn, options.model_copy(update={"mode": "mask"})
    )
    assert masked.tolist() == pytest.approx([math.exp(0.1), 0, 0, 0])


def test_long_episodes_keep_their_geometric_weight() -> None:
    """A thousand tokens each 1 % off: the product is e^10, the geometric mean 1.01."""
    log_ratio, one = torch.full((1000,), 0.01), torch.zeros(1000)
    options = CorrectionOptions(level="geometric", mode="mask", low=0.9, high=1.1)
    assert (correction_weights(log_ratio, one, one, options) > 1).all()
    product = options.model_copy(update={"level": "sequence"})
    assert not correction_weights(log_ratio, one, one, product).any()


def test_the_effective_sample_size_by_hand() -> None:
    metrics = correction_metrics(torch.zeros(4), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert metrics == {"sampler/kl": 0.0, "sampler/ess": 0.5, "sampler/masked": 0.5}
    assert correction_metrics(torch.zeros(2), torch.zeros(2))["sampler/ess"] == 0.0


def test_the_default_loss_is_bit_for_bit_the_first_one() -> None:
    """PPO's clip as the first release computed it: runs of then and now are one."""
    for seed in range(20):
        rows = random_rows(seed)
        rows = Rows(
            rows.logprobs.detach().float().requires_grad_(),
            rows.old_logprobs.float(),
            rows.advantages.float(),
            rows.sequence,
            rows.turn,
        )
        log_ratio = (rows.logprobs - rows.old_logprobs).clamp(-20.0, 20.0)
        ratio = log_ratio.exp()
        plain = ratio * rows.advantages
        first = -torch.minimum(plain, ratio.clamp(1.0 - 0.2, 1.0 + 0.2) * rows.advantages)
        now = LossOptions().policy_loss(rows).loss
        assert torch.equal(now, first)
        assert torch.equal(gradient(now, rows), gradient(first, rows))


def test_reinforce_ignores_the_ratio() -> None:
    rows = rows_of([3.0], [2.0])
    assert gradient(reinforce(rows).loss, rows).tolist() == [-2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (LossOptions(name="cispo", clip_low=0.1), "loss.clip_low = 0.1 has no effect"),
        (LossOptions(dual_clip=1.1), r"must be above 1 \+ loss.clip_high = 1.2"),
        (LossOptions(normaliser="constant"), "the constant one needs a length"),
        (LossOptions(constant_tokens=5), "no other takes one"),
        (LossOptions(level="turn"), "loss.level = 'turn' has no effect"),
        (KlOptions(estimator="k1"), "kl.estimator = 'k1' has no effect with kl.weight = 0"),
        (KlOptions(weight=0.1, estimator="k1", is_weighted=False), "gradient of mean 0"),
        (KlOptions(weight=0.1, place="reward", is_weighted=False), "kl.is_weighted"),
    ],
)
def test_what_cannot_work_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options.check()


def test_correction_bounds_must_hold_one() -> None:
    with pytest.raises(ValueError, match="must be at most 1"):
        CorrectionOptions(level="token", low=1.1)
