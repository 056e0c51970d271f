"""The objective of an update is the sum of its parts', wherever an episode's sequences lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from turnhalle.training.batch import Batch
from turnhalle.training.losses.options import KlOptions, LossOptions
from turnhalle.training.objective import Objective
from turnhalle.training.scoring import Scores


def batch() -> Batch:
    """Two episodes; the history of the first was rewritten, so it is two sequences."""
    rng = np.random.default_rng(0)
    sequence = np.repeat([0, 1, 2], [3, 2, 4])
    columns = rng.normal(size=(4, 9)).astype(np.float32)
    return Batch(
        sequences=[np.arange(8)] * 3,
        episode=np.array([0, 0, 1]),
        sequence=sequence,
        position=np.array([1, 2, 3, 1, 2, 1, 2, 3, 4]),
        turn=np.array([0, 0, 1, 2, 2, 0, 1, 1, 2]),
        advantage=columns[0],
        sampler_logprob=columns[1],
        old_logprob=columns[1],
        ref_logprob=columns[2],
        weight=np.abs(columns[3]),
        value_target=np.full(9, np.nan, dtype=np.float32),
    )


def scores(of: Batch) -> Scores:
    logprobs = torch.from_numpy(of.old_logprob + 0.1 * of.ref_logprob)
    return Scores(logprobs, torch.ones(of.num_rows), None)


@pytest.mark.parametrize("name", ["ppo", "gspo"])
@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
def test_sequences_of_one_episode_may_be_in_different_parts(name: Any, normaliser: Any) -> None:
    length = 5 if normaliser == "constant" else None
    loss = LossOptions(name=name, normaliser=normaliser, constant_tokens=length, entropy_bonus=0.1)
    objective, whole = Objective(loss, KlOptions(weight=0.1)), batch()
    total, sums = objective.of_part(whole, scores(whole), whole)
    for cut in ([[0], [1, 2]], [[2, 0], [1]]):
        parts = [whole.select(chosen) for chosen in cut]
        done = [objective.of_part(part, scores(part), whole) for part in parts]
        assert sum(float(t) for t, _ in done) == pytest.approx(float(total), rel=1e-5)
        for key, value in sums.items():
            assert sum(s[key] for _, s in done) == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("is_weighted", [True, False])
def test_kl_and_entropy_are_weighed_as_the_tokens_are(is_weighted: bool) -> None:
    """Tokens of another sampler stand for the policy's by their weight; 0 says nothing at all."""
    loss = LossOptions(entropy_bonus=0.5, normaliser="constant", constant_tokens=1)
    objective = Objective(loss, KlOptions(weight=0.1, is_weighted=is_weighted))
    whole = batch()
    weight = np.array([1, 0, 2, 1, 1, 0, 1, 1, 3], dtype=np.float32)
    weighed, plain = replace(whole, weight=weight), replace(whole, weight=np.ones_like(weight))
    gradients = []
    for given in (weighed, plain):
        logprobs = scores(given).logprobs.requires_grad_()
        total, _ = objective.of_part(given, replace(scores(given), logprobs=logprobs), given)
        gradients.append(torch.autograd.grad(total, logprobs)[0].numpy())
    is_proportional = np.allclose(gradients[0], weight * gradients[1], rtol=1e-5)
    assert is_proportional == is_weighted


def test_the_sequence_normaliser_means_episodes() -> None:
    """The mean of the episodes' means over tokens; their sequences have no say of their own."""
    whole = batch()
    objective = Objective(LossOptions(name="reinforce", normaliser="sequence"))
    total, _ = objective.of_part(whole, scores(whole), whole)
    row = -whole.advantage * scores(whole).logprobs.numpy() * whole.weight
    assert float(total) == pytest.approx((row[:5].mean() + row[5:].mean()) / 2, rel=1e-5)
