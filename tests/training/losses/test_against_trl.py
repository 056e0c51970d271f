"""Losses, KL and sampler corrections are TRL 1.16's in float64 to 1e-9, gradients too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.training.losses.correction import CorrectionOptions, correction_weights
from turnhalle.training.losses.kl import kl_loss
from turnhalle.training.losses.normalise import Normaliser
from turnhalle.training.losses.options import LossOptions
from turnhalle.training.losses.rows import Rows

from .trl import trl_loss, trl_trainer

pytest.importorskip("trl", reason='needs TRL: pip install "trl==1.16.*"')

B, T = 4, 6


@dataclass
class Draw:
    """Random log-probs of ragged completions with tokens of the environment between."""

    mask: torch.Tensor
    new: torch.Tensor
    old: torch.Tensor
    ref: torch.Tensor
    sampler: torch.Tensor
    advantages: torch.Tensor

    @property
    def index(self) -> tuple[torch.Tensor, torch.Tensor]:
        row, column = torch.nonzero(self.mask.bool(), as_tuple=True)
        return row, column

    def rows(self, new: torch.Tensor) -> Rows:
        row, column = self.index
        # A turn is a run of sampled tokens.
        turn = row * T + (self.mask == 0).long().cumsum(1)[row, column]
        return Rows(new[row, column], self.old[row, column], self.advantages[row], row, turn)

    def inputs(self) -> dict[str, torch.Tensor]:
        """What TRL's loss takes."""
        return {
            "mask": self.mask,
            "old_per_token_logps": self.old,
            "advantages": self.advantages,
        }


def draw(seed: int) -> Draw:
    rng = np.random.default_rng(seed)
    mask = np.ones((B, T), dtype=np.int64)
    for row in range(B):
        mask[row, rng.integers(3, T + 1) :] = 0
        mask[row, rng.integers(1, 3)] = 0

    def logprobs(near: np.ndarray, by: float) -> np.ndarray:
        return near + by * rng.normal(size=(B, T))

    new = -rng.exponential(size=(B, T))
    old = logprobs(new, 0.3)
    arrays = (new, old, logprobs(new, 0.5), logprobs(old, 0.05), rng.normal(size=B))
    return Draw(torch.from_numpy(mask), *(torch.from_numpy(a) for a in arrays))


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


def configured(
    built: Any, *, loss_type: str = "dapo", beta: float = 0.0, epsilon: float = 0.2, **config: Any
) -> Any:
    """TRL's trainer as its constructor would have set it up."""
    built.loss_type, built.beta, built.use_vllm = loss_type, beta, False
    built.epsilon_low = epsilon
    built.epsilon_high = config.pop("epsilon_high", epsilon)
    built.importance_sampling_level = config.pop("importance_sampling_level", "token")
    built.max_completion_length = config.pop("max_completion_length", 256)
    defaults = {"delta": None, "use_bias_correction_kl": True, "sapo_temperature_neg": 1.05}
    for name, value in (defaults | config).items():
        assert hasattr(built.args, name)
        setattr(built.args, name, value)
    return built


def compare(
    theirs: torch.Tensor, new: torch.Tensor, ours: torch.Tensor, again: torch.Tensor
) -> None:
    theirs.backward()
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9, abs=1e-12)
    assert new.grad is not None
    assert again.grad is not None
    assert torch.allclose(again.grad, new.grad, rtol=1e-9, atol=1e-12)


def counts(rows: Rows) -> torch.Tensor:
    """`[M]` rows of each row's episode."""
    return torch.bincount(rows.sequence)[rows.sequence]


def leaves(given: Draw) -> tuple[torch.Tensor, torch.Tensor]:
    return given.new.clone().requires_grad_(), given.new.clone().requires_grad_()


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


@pytest.mark.parametrize(
    ("mode", "low", "high", "options"),
    [
        ("token_truncate", None, 1.05, CorrectionOptions(level="token", high=1.05)),
        ("token_mask", 0.9, 1.1, CorrectionOptions(level="token", mode="mask", low=0.9, high=1.1)),
        ("sequence_truncate", 0.9, 1.035, CorrectionOptions(level="sequence", low=0.9, high=1.035)),
        ("sequence_mask", None, 3.0, CorrectionOptions(level="sequence", mode="mask", high=3.0)),
        (
            "sequence_mask",
            0.9,
            1.035,
            CorrectionOptions(level="sequence", mode="mask", low=0.9, high=1.035),
        ),
    ],
)
def test_sampler_corrections(
    built: Any, mode: str, low: float | None, high: float, options: CorrectionOptions
) -> None:
    """TRL computes its ratio inside of generation; the formula of its source is repeated here, and
    its loss takes it from there."""
    configured(built).use_vllm = True
    for seed in range(5):
        given = draw(seed)
        new, again = leaves(given)
        difference = (given.old - given.sampler) * given.mask
        if "sequence" in mode:
            difference = difference.sum(-1, keepdim=True)
        ratio = difference.exp()
        if "truncate" in mode:
            ratio = ratio.clamp(min=low, max=high)
        else:
            ratio = ratio.masked_fill((ratio < (low or -np.inf)) | (ratio > high), 0.0)
        inputs = given.inputs() | {"importance_sampling_ratio": ratio}
        rows = given.rows(again)
        log_ratio = (given.old - given.sampler)[given.index]
        weights = correction_weights(log_ratio, rows.sequence, rows.turn, options)
        loss = LossOptions().policy_loss(rows).loss * weights
        ours = Normaliser("token", len(loss), B).total(loss, counts(rows))
        compare(trl_loss(built, new, inputs), new, ours, again)


@pytest.mark.parametrize(
    ("scale", "estimator"), [("group", "grpo"), ("none", "dr_grpo"), ("rloo", "rloo")]
)
def test_advantages(scale: str, estimator: Any) -> None:
    """TRL computes advantages inside of generation; these are its lines, on random returns."""
    from trl.trainer.utils import nanstd

    from turnhalle.training.credit.assign import ESTIMATORS
    from turnhalle.training.credit.options import CreditOptions

    from ..credit.test_estimators import group, read_episodes

    rewards = torch.from_numpy(np.random.default_rng(0).normal(size=12))
    rewards[7] = torch.nan  # what TRL calls unscorable we call masked
    grouped = rewards.view(-1, 4)
    if scale == "rloo":
        count = (~torch.isnan(grouped)).sum(dim=1, keepdim=True)
        total = torch.nansum(grouped, dim=1, keepdim=True)
        theirs = rewards - ((total - grouped) / (count - 1)).view(-1)
    else:
        theirs = rewards - torch.nanmean(grouped, dim=1).repeat_interleave(4)
        if scale == "group":
            theirs = theirs / (nanstd(grouped, dim=1).repeat_interleave(4) + 1e-4)
    groups = [
        group(*[[0.0 if np.isnan(r) else r] for r in row], masked=(3,) if i == 1 else ())
        for i, row in enumerate(grouped.tolist())
    ]
    ours = ESTIMATORS[estimator](read_episodes(groups), CreditOptions(estimator=estimator))
    # TRL's nanstd holds Bessel's factor in float32.
    bound = 1e-7 if scale == "group" else 1e-9
    assert np.allclose(ours[:, 0], torch.nan_to_num(theirs).numpy(), rtol=bound, atol=1e-12)
