"""Advantages, prices, sampler corrections and preferences are those that TRL 1.16 computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.agents.core import Group, Segment, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.tasks import Task
from turnhalle.training.batch import lay_out
from turnhalle.training.credit.assign import assign_credit
from turnhalle.training.credit.episodes import Episodes, read_episodes
from turnhalle.training.credit.options import CreditOptions
from turnhalle.training.losses.correction import CorrectionOptions, correction_weights
from turnhalle.training.losses.dpo import dpo
from turnhalle.training.losses.normalise import Normaliser
from turnhalle.training.losses.options import KlOptions, LossOptions
from turnhalle.training.shaping import kl_prices, pay

from .trl import (
    B,
    Draw,
    T,
    compare,
    configured,
    counts,
    dpo_trainer,
    draw,
    leaves,
    rloo_trainer,
    trl_loss,
    trl_scored,
    trl_trainer,
)

pytest.importorskip("trl", reason='needs TRL: pip install "trl==1.16.*"')

TASK = Task("x", "train", 0, 1, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trl")


@pytest.fixture(scope="module")
def grpo(make_model: Any, folder: Path) -> Any:
    return trl_trainer(make_model(), folder)


@pytest.fixture(scope="module")
def rloo(make_model: Any, folder: Path) -> Any:
    return rloo_trainer(make_model(), folder, beta=0.0)


def groups_of(rewards: torch.Tensor, logprobs: torch.Tensor, mask: torch.Tensor) -> list[Group]:
    """Groups of four of one turn each; what TRL calls unscorable we call masked."""

    def play(i: int) -> Trajectory:
        sampled = logprobs[i][mask[i].bool()].tolist()
        reward = 0.0 if rewards[i].isnan() else float(rewards[i])
        turn = Turn("", "", reward, segments=[Segment([1]), Segment([2] * len(sampled), sampled)])
        stop = StopReason.ENV_ERROR if rewards[i].isnan() else StopReason.FINISHED
        return Trajectory(TASK, i % 4, [turn], stop=stop)

    return [
        Group(TASK, [play(i) for i in range(first, first + 4)])
        for first in range(0, len(rewards), 4)
    ]


def credited(episodes: Episodes, estimator: Any) -> Any:
    return assign_credit(episodes, CreditOptions(estimator=estimator)).worth[:, 0]


def drawn_rewards() -> torch.Tensor:
    rewards = torch.from_numpy(np.random.default_rng(0).normal(size=12))
    rewards[7] = torch.nan
    return rewards


@pytest.mark.parametrize(("scale", "estimator"), [("group", "grpo"), ("none", "dr_grpo")])
def test_advantages_of_grpo(grpo: Any, scale: str, estimator: Any) -> None:
    configured(grpo)
    grpo.scale_rewards, grpo.num_generations = scale, 4
    rewards, none = drawn_rewards(), torch.zeros(12, 3)
    mask = torch.ones(12, 3, dtype=torch.long)
    theirs = trl_scored(grpo, rewards, mask=mask, logprobs=[none])["advantages"]
    ours = credited(read_episodes(groups_of(rewards, none, mask)), estimator)
    assert np.allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_advantages_of_rloo(rloo: Any) -> None:
    rewards, none = drawn_rewards(), torch.zeros(12, 3)
    mask = torch.ones(12, 3, dtype=torch.long)
    rloo.beta = 0.0
    theirs = trl_scored(rloo, rewards, mask=mask, logprobs=[none])["advantages"]
    ours = credited(read_episodes(groups_of(rewards, none, mask)), "rloo")
    assert np.allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_the_price_on_kl_in_rloo_s_rewards(rloo: Any) -> None:
    """TRL subtracts the sum of k1 over a completion from its reward."""
    rng = np.random.default_rng(1)
    old, ref = (torch.from_numpy(-rng.exponential(size=(12, 3))) for _ in range(2))
    # A batch holds log-probs in 32 bits.
    old, ref = old.float().double(), ref.float().double()
    rewards, mask = drawn_rewards(), torch.ones(12, 3, dtype=torch.long)
    rloo.beta, rloo.ref_model = 0.3, rloo.model
    theirs = trl_scored(rloo, rewards, mask=mask, logprobs=[old, ref])["advantages"]
    groups = groups_of(rewards, old, mask)
    batch, episodes = lay_out(groups), read_episodes(groups)
    counted = ~rewards.isnan()
    batch = replace(batch, ref_logprob=ref[counted].flatten().float().numpy())
    options = KlOptions(weight=0.3, estimator="k1", place="reward")
    ours = credited(pay(episodes, kl_prices(batch, episodes, options)), "rloo")
    assert np.allclose(ours, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_the_gradient_of_rloo_on_tokens_of_the_policy_itself(rloo: Any) -> None:
    """Log-probs summed over each completion, a mean over completions: REINFORCE with length 1."""
    for seed in range(5):
        given = draw(seed)
        new, again = leaves(given)
        rloo._get_per_token_logps_and_entropies = lambda *_, new=new, **__: (
            new,
            torch.zeros(B, T),
            None,
        )
        ids = torch.zeros(B, T, dtype=torch.long)
        inputs = {
            "prompt_ids": ids[:, :1],
            "prompt_mask": torch.ones_like(ids[:, :1]),
            "completion_ids": ids,
            "completion_mask": given.mask,
            "old_logps": (given.new * given.mask).sum(1),
            "advantages": given.advantages,
        }
        rloo._compute_loss(rloo.model, inputs).backward()
        rows = given.rows(again)
        loss = LossOptions(name="reinforce").policy_loss(rows).loss
        Normaliser("constant", len(loss), B, 1).total(loss, counts(rows)).backward()
        assert new.grad is not None
        assert again.grad is not None
        assert torch.allclose(again.grad, new.grad, rtol=1e-9, atol=1e-12)


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
    grpo: Any, mode: str, low: float | None, high: float, options: CorrectionOptions
) -> None:
    configured(grpo)
    grpo.num_generations = 2
    grpo.vllm_importance_sampling_correction = True
    grpo.vllm_importance_sampling_mode = mode
    grpo.vllm_importance_sampling_clip_min, grpo.vllm_importance_sampling_clip_max = low, high
    for seed in range(5):
        given = draw(seed)
        new, again = leaves(given)
        grpo.use_vllm = True
        scored = trl_scored(
            grpo, torch.ones(B), mask=given.mask, logprobs=[given.old], sampler=given.sampler
        )
        theirs = scored["importance_sampling_ratio"]
        rows = given.rows(again)
        log_ratio = (given.old - given.sampler)[given.index]
        weights = correction_weights(log_ratio, rows.sequence, rows.turn, options)
        wanted = theirs.expand(B, T)[given.index]
        assert torch.allclose(weights, wanted, rtol=1e-9, atol=1e-12)
        inputs = given.inputs() | {"importance_sampling_ratio": theirs}
        loss = LossOptions().policy_loss(rows).loss * weights
        ours = Normaliser("token", len(loss), B).total(loss, counts(rows))
        compare(trl_loss(grpo, new, inputs), new, ours, again)


def test_direct_preference_optimisation(make_model: Any, folder: Path) -> None:
    trainer = dpo_trainer(make_model(), folder, beta=0.3)
    trainer.precompute_ref_logps = True
    for seed in range(3):
        given: Draw = draw(seed)
        mask = given.mask[:, 1:]
        new, again = (leaf for leaf in leaves(given))
        outputs = SimpleNamespace(
            log_probs=new[:, 1:] * mask,
            entropy=torch.zeros(B, T - 1),
            mean_logits=torch.zeros(B, T - 1),
            is_top1=torch.zeros(B, T - 1, dtype=torch.bool),
        )
        reference = (given.ref[:, 1:] * mask).sum(1)
        inputs = {
            "input_ids": torch.zeros(B, T, dtype=torch.long),
            "attention_mask": torch.ones(B, T, dtype=torch.long),
            "completion_mask": given.mask,
            "ref_chosen_logps": reference[: B // 2],
            "ref_rejected_logps": reference[B // 2 :],
        }
        theirs = trainer._compute_loss(lambda *_, found=outputs, **__: found, inputs, False)
        sums = (again[:, 1:] * mask).sum(1)
        margins = sums[: B // 2] - sums[B // 2 :]
        ours = dpo(margins, reference[: B // 2] - reference[B // 2 :], 0.3).mean()
        compare(theirs, new, ours, again)
