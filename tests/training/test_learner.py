"""The learner: one update however the batch is cut, and none on tokens of another policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.agents import adapters
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.envs.errors import EngineError
from turnhalle.training import learner as learner_module
from turnhalle.training.batch import Batch
from turnhalle.training.learn_options import LearnOptions, scheduled_rate
from turnhalle.training.learner import Learner
from turnhalle.training.losses.correction import CorrectionOptions
from turnhalle.training.losses.options import KlOptions, LossOptions
from turnhalle.training.objective import Objective
from turnhalle.training.reference import Reference
from turnhalle.training.scoring import score
from turnhalle.training.value import ValueOptions


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


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
@pytest.mark.parametrize("name", ["ppo", "gspo", "sapo"])
def test_no_normaliser_depends_on_micro_batches(
    make_model: Any, normaliser: Any, name: Any
) -> None:
    length = 5 if normaliser == "constant" else None
    loss = LossOptions(name=name, normaliser=normaliser, constant_tokens=length, entropy_bonus=0.1)
    gradients = []
    for budget in (10**6, 40):
        options = LearnOptions(minibatches=1, micro_batch_tokens=budget)
        one = objective_learner(make_model(), options, Objective(loss))
        one.update(random_batch(one), 1e-2, seed=0)
        gradients.append(
            torch.cat([p.grad.flatten() for p in one.parameters if p.grad is not None])
        )
    assert gradients[0].norm() > 0
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)


def objective_learner(
    folder: Any, options: LearnOptions, objective: Objective, start: Any = None
) -> Learner:
    given = ModelOptions(name=str(folder), precision="fp32", device="cpu")
    lm = load_model(given, adapter=start, lora_seed=0)
    reference = Reference(lm, start) if objective.kl.weight else None
    return Learner(lm, options, 1.0, objective, reference)


def saved_adapter(folder: Any, path: Path) -> Path:
    """An adapter that is far from the base."""
    one = learner(folder, minibatches=1, max_grad_norm=10.0)
    batch = random_batch(one)
    for step in range(3):
        one.update(batch, 2e-2, seed=step)
    adapters.save(one.lm, path)
    return path


def test_the_reference_is_the_base_or_the_adapter_that_training_started_from(
    make_model: Any, tmp_path: Path
) -> None:
    objective = Objective(kl=KlOptions(weight=0.1))
    start = saved_adapter(make_model(), tmp_path / "start")
    for folder in (None, start):
        one = objective_learner(make_model(), LearnOptions(minibatches=1), objective, folder)
        batch = random_batch(one)
        at_start = scored(one, batch)
        one.update(batch, 2e-2, seed=0)
        moved = scored(one, batch)
        assert np.abs(moved - at_start).max() > 1e-3
        prepared, _ = one.prepare(batch)
        assert prepared.ref_logprob == pytest.approx(at_start, abs=1e-5)
        # Asking the reference changes nothing in the policy, nor what is trained.
        assert (scored(one, batch) == moved).all()
        assert all(p.requires_grad for p in one.parameters)
        assert len(one.lm.trainable()) == len(one.parameters)
    adapters.save(one.lm, tmp_path / "after")
    assert not (tmp_path / "after" / "reference").exists()


def test_a_high_price_holds_the_policy_at_its_start(make_model: Any) -> None:
    moved = {}
    for weight in (1e-6, 3.0):
        objective = Objective(kl=KlOptions(weight=weight, estimator="k2", is_weighted=False))
        options = LearnOptions(minibatches=1, max_grad_norm=1.0)
        one = objective_learner(make_model(), options, objective)
        batch = random_batch(one)
        for step in range(8):
            prepared, _ = one.prepare(batch)
            metrics = one.update(prepared, 1e-3, seed=step).metrics
        moved[weight] = metrics["ref_kl"]
    assert moved[3.0] < 0.2 * moved[1e-6]


def test_a_stale_sampler_is_measured_and_weighed(make_model: Any) -> None:
    correction = CorrectionOptions(level="token", high=1.1)
    one = objective_learner(make_model(), LearnOptions(), Objective(correction=correction))
    batch = random_batch(one)
    fresh, metrics = one.prepare(batch)
    assert metrics["sampler/ess"] == pytest.approx(1.0)
    assert metrics["sampler/kl"] == pytest.approx(0.0, abs=1e-6)
    assert fresh.weight == pytest.approx(1.0, abs=1e-4)
    shift = np.where(np.arange(batch.num_rows) % 2, 0.3, -0.05).astype(np.float32)
    stale, metrics = one.prepare(replace(batch, sampler_logprob=batch.sampler_logprob - shift))
    assert stale.weight == pytest.approx(np.minimum(np.exp(shift), 1.1), abs=1e-3)
    assert stale.old_logprob == pytest.approx(batch.old_logprob, abs=1e-5)
    assert metrics["sampler/ess"] < 1.0
    assert metrics["sampler/kl"] > 0.01


def test_what_top_p_kept_is_a_factor_of_every_correction(make_model: Any) -> None:
    mass = np.linspace(0.3, 1.0, 24).astype(np.float32)
    for level in ("token", "turn", "geometric", "sequence"):
        correction = CorrectionOptions(level=level)  # type: ignore[arg-type]
        one = objective_learner(make_model(), LearnOptions(), Objective(correction=correction))
        batch = replace(random_batch(one), weight=mass)
        done, metrics = one.prepare(batch)
        assert metrics["sampler/kl"] == pytest.approx(0.0, abs=1e-6)  # the sampler is the policy
        assert metrics["sampler/kept_mass"] == pytest.approx(mass.mean())
        wanted = {
            "token": mass,
            "turn": np.repeat(mass.reshape(-1, 2).prod(1), 2),
            "geometric": np.repeat(mass.reshape(-1, 4).prod(1) ** 0.25, 4),
            "sequence": np.repeat(mass.reshape(-1, 4).prod(1), 4),
        }[level]
        assert done.weight == pytest.approx(wanted, abs=1e-4)
    plain, metrics = learner(make_model()).prepare(batch)
    assert (plain.weight == mass).all()
    assert set(metrics) == {"sampler/kept_mass", "sampler/ess"}


def test_the_critic_learns_what_turns_are_worth(make_model: Any) -> None:
    objective = Objective(value=ValueOptions(learning_rate=0.1))
    options = LearnOptions(minibatches=1, learning_rate=1e-4)
    one = objective_learner(make_model(), options, objective)
    batch = random_batch(one)
    targets = np.where(batch.turn == 0, 1.0, -0.5).astype(np.float32)
    batch = replace(batch, value_target=np.where(batch.is_first, targets, np.nan))
    shape = (len(batch.sequences), 2)
    assert (one.values(batch, shape) == 0).all()
    for step in range(60):
        one.update(batch, 1e-4, seed=step)
    learned = one.values(batch, shape)
    assert np.abs(learned - [1.0, -0.5]).mean() < 0.2


def test_of_no_episodes_at_all_a_critic_says_nothing(make_model: Any) -> None:
    one = objective_learner(make_model(), LearnOptions(), Objective(value=ValueOptions()))
    nothing = random_batch(one).select([])
    assert one.prepare(nothing) == (nothing, {})
    assert (one.values(nothing, (3, 2)) == np.zeros((3, 2))).all()


def test_episodes_with_log_probs_that_are_no_numbers_are_named_and_left_out(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their gradient would be NaN even with weight 0, so they are not in the pass at all."""
    one, clean = learner(make_model(), minibatches=1), learner(make_model(), minibatches=1)
    batch = random_batch(one)
    real = learner_module.score
    length = len(batch.sequences[2])

    def poisoned(lm: Any, part: Batch, *rest: Any) -> Any:
        scores = real(lm, part, *rest)
        bad = [i for i, s in enumerate(part.sequences) if len(s) == length]
        hit = torch.from_numpy(np.isin(part.sequence, bad))
        return replace(scores, logprobs=scores.logprobs.masked_fill(hit, torch.nan))

    monkeypatch.setattr(learner_module, "score", poisoned)
    done = one.update(batch, 1e-2, seed=0)
    monkeypatch.undo()
    assert done.dropped == [2]
    assert done.num_skipped == 0
    clean.update(batch.without([2]), 1e-2, seed=0)
    for ours, theirs in zip(one.parameters, clean.parameters, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_gradient_that_is_no_number_skips_the_step_and_names_the_episode(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = learner(make_model(), minibatches=1)
    batch = random_batch(one)
    length = len(batch.sequences[4])
    real = learner_module.score

    def exploding(lm: Any, part: Batch, *rest: Any) -> Any:
        """Finite log-probs whose derivative is not: the root of a zero."""
        scores = real(lm, part, *rest)
        hit = torch.from_numpy(
            np.isin(part.sequence, [i for i, s in enumerate(part.sequences) if len(s) == length])
        )
        poison = (scores.logprobs * 0.0).sqrt() * hit
        return replace(scores, logprobs=scores.logprobs + poison) if hit.any() else scores

    monkeypatch.setattr(learner_module, "score", exploding)
    before = [p.detach().clone() for p in one.parameters]
    done = one.update(batch, 1e-2, seed=0)
    assert (done.num_skipped, done.blamed, done.metrics) == (1, [4], {})
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters, strict=True))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
    ],
)
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(
    make_model: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    one, same = learner(make_model(), minibatches=1), learner(make_model(), minibatches=1)
    batch = random_batch(one)
    real = learner_module.score

    def small(lm: Any, part: Batch, *rest: Any) -> Any:
        if len(part.sequences) > 2:
            raise error
        return real(lm, part, *rest)

    monkeypatch.setattr(learner_module, "score", small)
    done = one.update(batch, 1e-2, seed=0)
    monkeypatch.undo()
    assert {kind for kind, _ in done.notes} == {"out_of_memory"}
    assert "halved" in done.notes[0][1]
    assert one.micro_batch_tokens < 120
    wanted = same.update(batch, 1e-2, seed=0)
    assert done.metrics == pytest.approx(wanted.metrics, rel=1e-4, abs=1e-6)


def test_scoring_before_an_update_halves_too(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a correction, a reference and a critic ask for; the next update tells."""
    one = objective_learner(make_model(), LearnOptions(), Objective(value=ValueOptions()))
    batch = random_batch(one)
    real = learner_module.score

    def small(lm: Any, part: Batch, *rest: Any) -> Any:
        if len(part.sequences) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(lm, part, *rest)

    wanted = one.values(batch, (6, 2)), one._score_all(batch)
    monkeypatch.setattr(learner_module, "score", small)
    assert (one.values(batch, (6, 2)) == wanted[0]).all()
    assert one._score_all(batch) == pytest.approx(wanted[1], abs=1e-5)
    assert {kind for kind, _ in one.update(batch, 1e-2, seed=0).notes} == {"out_of_memory"}


def test_a_sequence_that_alone_is_too_much_ends_the_run_with_the_remedy(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = learner(make_model(), minibatches=1)
    batch = random_batch(one)

    def none(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(learner_module, "score", none)
    with pytest.raises(EngineError, match=r"set a lower rollout\.max_context"):
        one.update(batch, 1e-2, seed=0)


def test_other_runtime_errors_are_not_taken_for_memory(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = learner(make_model())
    batch = random_batch(one)

    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(learner_module, "score", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        one.update(batch, 1e-2, seed=0)


def test_later_epochs_compare_with_the_policy_before_the_first(make_model: Any) -> None:
    """With a tiny range almost every token is out of it after a big first step."""
    loss = LossOptions(clip_low=1e-6, clip_high=1e-6)
    shares = []
    for epochs in (1, 4):
        options = LearnOptions(minibatches=1, epochs=epochs, max_grad_norm=10.0)
        one = objective_learner(make_model(), options, Objective(loss))
        shares.append(one.update(random_batch(one), 2e-2, seed=0).metrics["clip_fraction"])
    assert shares[1] > shares[0] + 0.25
