"""Losses, KL and entropy bonus are TRL 1.16's in float64 to 1e-9, gradients too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.training.losses.entropy import entropy_surrogate
from turnhalle.training.losses.kl import kl_loss
from turnhalle.training.losses.normalise import Normaliser
from turnhalle.training.losses.options import LossOptions
from turnhalle.training.losses.rows import Rows

from .trl import B, compare, configured, counts, draw, leaves, trl_loss, trl_trainer

pytest.importorskip("trl", reason='needs TRL: pip install "trl==1.16.*"')

CASES: list[tuple[str, dict[str, Any], LossOptions]] = [
    ("grpo", {}, LossOptions(normaliser="sequence")),
    ("bnpo", {}, LossOptions()),
    ("dapo", {}, LossOptions()),
    ("dapo", {"epsilon_high": 0.28}, LossOptions(clip_high=0.28)),
    ("dapo", {"delta": 1.3}, LossOptions(dual_clip=1.3)),
    ("dapo", {"epsilon": 0.05}, LossOptions(clip_low=0.05, clip_high=0.05)),
    (
        "dr_grpo",
        {"max_completion_length": 8},
        LossOptions(normaliser="constant", constant_tokens=8),
    ),
    ("cispo", {"epsilon_high": 5.0}, LossOptions(name="cispo")),
    ("cispo", {"epsilon_high": 1.1}, LossOptions(name="cispo", clip_high=0.1)),
    (
        # 1.05 is no float32, which TRL holds its temperatures in.
        "sapo",
        {"sapo_temperature_neg": 1.25},
        LossOptions(name="sapo", normaliser="sequence", temperature_negative=1.25),
    ),
    (
        "grpo",
        {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
        LossOptions(name="gspo", normaliser="sequence"),
    ),
    (
        "grpo",
        {"importance_sampling_level": "sequence", "epsilon": 0.1},
        LossOptions(name="gspo", normaliser="sequence", clip_low=0.1, clip_high=0.1),
    ),
]


@pytest.fixture(scope="module")
def built(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trl_trainer(make_model(), tmp_path_factory.mktemp("trl"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2].name}-{case[1]}")
def test_policy_losses(built: Any, case: tuple[str, dict[str, Any], LossOptions]) -> None:
    name, config, options = case
    configured(built, loss_type=name, **config)
    for seed in range(5):
        given = draw(seed)
        new, again = leaves(given)
        rows = given.rows(again)
        normaliser = Normaliser(options.normaliser, len(rows.logprobs), B, options.constant_tokens)
        ours = normaliser.total(options.policy_loss(rows).loss, counts(rows))
        compare(trl_loss(built, new, given.inputs()), new, ours, again)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_kl_in_the_loss(built: Any, is_weighted: bool) -> None:
    configured(built, beta=0.04, use_bias_correction_kl=is_weighted)
    for seed in range(5):
        given = draw(seed)
        new, again = leaves(given)
        inputs = given.inputs() | {"ref_per_token_logps": given.ref}
        rows = given.rows(again)
        price = kl_loss(rows, given.ref[given.index], "k3", is_weighted)
        loss = LossOptions().policy_loss(rows).loss + 0.04 * price
        ours = Normaliser("token", len(loss), B).total(loss, counts(rows))
        compare(trl_loss(built, new, inputs), new, ours, again)


def test_the_entropy_bonus(built: Any) -> None:
    """TRL differentiates the entropy itself; ours is the mean of what sampled tokens give."""
    configured(built)
    given = draw(0)
    shape = (*given.mask.shape, 5)
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=shape)).requires_grad_()
    logprobs = logits.log_softmax(-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    built._entropy_bonus_enabled, built.use_adaptive_entropy, built.entropy_coef = True, False, 0.01
    try:
        with_bonus = trl_loss(built, given.new, given.inputs(), entropies)
    finally:
        built._entropy_bonus_enabled = False
    theirs = torch.autograd.grad(with_bonus, logits, retain_graph=True)[0]
    ours = torch.zeros_like(theirs)
    at, count = given.index, int(given.mask.sum())
    number = torch.arange(count)
    for token in range(5):  # every token of the vocabulary, by its chance
        chosen = logprobs[at][:, token]
        rows = Rows(chosen, chosen.detach(), torch.zeros_like(chosen), number, number)
        bonus = entropy_surrogate(rows, entropies[at].detach()) * chosen.detach().exp()
        ours -= 0.01 * torch.autograd.grad(bonus.sum(), logits, retain_graph=True)[0] / count
    assert theirs.abs().max() > 1e-4
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    assert (with_bonus - trl_loss(built, given.new, given.inputs())).item() == pytest.approx(
        -0.01 * float((entropies.detach() * given.mask).sum() / count), rel=1e-9
    )
