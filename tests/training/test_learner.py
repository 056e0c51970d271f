"""The learner: one update however the batch is cut, and none on tokens of another policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import EngineError
from turnhalle.training.batch import Batch
from turnhalle.training.learner import Learner, LearnOptions, scheduled_rate
from turnhalle.training.scoring import score


def learner(folder: Any, temperature: float = 1.0, **options: Any) -> Learner:
    lm = load_model(ModelOptions(name=str(folder), precision="fp32", device="cpu"), lora_seed=0)
    return Learner(lm, LearnOptions(**options), temperature)


@torch.no_grad()
def random_batch(learner: Learner, sequences: int = 6) -> Batch:
    """Sequences of many lengths, their rows scored by the learner's own model."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(3, 250, 8 + 5 * i) for i in range(sequences)]
    sequence = np.repeat(np.arange(sequences), 4)
    position = np.concatenate([rng.choice(np.arange(1, len(t)), 4, replace=False) for t in tokens])
    zeros = np.zeros(len(sequence), dtype=np.float32)
    batch = Batch(
        sequences=tokens,
        episode=np.arange(sequences),
        sequence=sequence,
        position=position,
        turn=np.tile([0, 0, 1, 1], sequences),
        advantage=rng.normal(size=len(sequence)).astype(np.float32),
        sampler_logprob=zeros,
        old_logprob=zeros,
        ref_logprob=zeros,
        weight=zeros + 1,
        value_target=zeros * np.nan,
    )
    return sampled(batch, scored(learner, batch))


def sampled(batch: Batch, logprobs: Any) -> Batch:
    """The batch as if an engine had sampled it with these log-probs."""
    columns = dict.fromkeys(("sampler_logprob", "old_logprob", "ref_logprob"), logprobs)
    return replace(batch, **columns)


def scored(learner: Learner, batch: Batch) -> Any:
    with torch.no_grad():
        return score(learner.lm, batch, learner.temperature).logprobs.numpy()


def updated(folder: Any, **options: Any) -> tuple[dict[str, float], torch.Tensor]:
    one = learner(folder, minibatches=1, **options)
    metrics = one.update(random_batch(one), 1e-2, seed=0).metrics
    # Gradients, not weights: Adam's first step turns the rounding of a zero into a full step.
    return metrics, torch.cat([p.grad.flatten() for p in one.parameters if p.grad is not None])


@pytest.mark.parametrize("budget", [1, 40, 100])
def test_micro_batches_change_nothing(make_model: Any, budget: int) -> None:
    whole, gradient = updated(make_model(), micro_batch_tokens=10**6)
    parts, same = updated(make_model(), micro_batch_tokens=budget)
    assert parts == pytest.approx(whole, rel=1e-4, abs=1e-6)
    assert torch.allclose(gradient, same, rtol=1e-3, atol=1e-6)


def test_an_update_moves_the_adapter_and_nothing_else(make_model: Any) -> None:
    one = learner(make_model(), minibatches=2)
    before = {n: p.detach().clone() for n, p in one.lm.model.named_parameters()}
    metrics = one.update(random_batch(one), 1e-2, seed=0).metrics
    for name, parameter in one.lm.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            continue
        assert torch.equal(parameter, before[name]), name
    moved = [n for n, p in one.lm.model.named_parameters() if not torch.equal(p, before[n])]
    assert moved
    assert metrics["kl"] >= 0
    assert 0 <= metrics["clip_fraction"] <= 1
    assert metrics["entropy"] > 0


def test_updates_raise_what_paid_and_lower_what_did_not(make_model: Any) -> None:
    one = learner(make_model(), minibatches=1, max_grad_norm=10.0)
    batch = random_batch(one)
    before = scored(one, batch)
    for step in range(5):
        one.update(batch, 1e-2, seed=step)
    gain = (scored(one, batch) - before) * batch.advantage
    assert gain.mean() > 0.1


def test_the_gradient_is_clipped_to_its_bound(make_model: Any) -> None:
    one = learner(make_model(), minibatches=1, max_grad_norm=1e-3)
    metrics = one.update(random_batch(one), 1e-2, seed=0).metrics
    norms = [p.grad.norm() for p in one.parameters if p.grad is not None]
    assert metrics["grad_norm"] > 1e-3
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=1e-3)


def test_scores_are_of_the_sampling_temperature(make_model: Any) -> None:
    plain, warm = learner(make_model()), learner(make_model(), temperature=2.0)
    batch = random_batch(plain, sequences=1)
    found = torch.from_numpy(scored(warm, batch))
    ids = torch.from_numpy(batch.sequences[0])[None]
    logprobs = (plain.lm.model(input_ids=ids).logits[0] / 2.0).log_softmax(-1)
    rows = torch.from_numpy(batch.position)
    assert torch.allclose(found, logprobs[rows - 1, ids[0, rows]], atol=1e-5)


def test_training_refuses_tokens_that_another_policy_sampled(make_model: Any) -> None:
    one = learner(make_model())
    batch = random_batch(one)
    assert one.check_parity(batch) < 1e-5
    off = np.float32(1e-3) * (np.arange(batch.num_rows) == 3)
    wrong = replace(batch, sampler_logprob=batch.sampler_logprob + off)
    with pytest.raises(EngineError, match="trainer and engine disagree"):
        one.check_parity(wrong)


def test_a_log_prob_that_is_no_number_is_refused(make_model: Any) -> None:
    one = learner(make_model())
    batch = random_batch(one)
    batch.sampler_logprob[0] = np.nan
    with pytest.raises(EngineError):
        one.check_parity(batch)


def test_the_learning_rate_warms_up_and_falls_along_a_line() -> None:
    options = LearnOptions(learning_rate=1.0, warmup_steps=2, final_share=0.1)
    rates = [scheduled_rate(options, step, 10) for step in range(1, 11)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[-1] == pytest.approx(0.1)
    falls = np.diff(rates[2:])
    assert falls == pytest.approx([falls[0]] * len(falls))
    assert scheduled_rate(LearnOptions(warmup_steps=0), 1, 1) == pytest.approx(2e-3)
    assert scheduled_rate(LearnOptions(warmup_steps=9), 1, 1) == pytest.approx(2e-3)
