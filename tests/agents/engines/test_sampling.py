"""Sampling: the right distribution, reproducible, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import torch

from turnhalle.agents.engines.sampling import sample, uniforms


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    seeds = np.arange(200, dtype=np.uint64).repeat(200)
    counters = np.tile(np.arange(200, dtype=np.uint64), 200)
    drawn = uniforms(seeds, counters).reshape(200, 200)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    histogram = np.histogram(drawn, bins=20, range=(0, 1))[0] / drawn.size
    assert np.abs(histogram - 0.05).max() < 0.005
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]) < 0.02


def test_uniforms_are_splitmix64() -> None:
    # First output of the reference implementation with seed 0 is 0xE220A8397B1DCDAF.
    zero = np.zeros(1, dtype=np.uint64)
    assert uniforms(zero, zero)[0] == (0xE220A8397B1DCDAF >> 11) * 2.0**-53


def test_tokens_come_with_the_frequency_of_their_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 8, generator=generator).expand(20_000, 8)
    uniform = torch.rand(20_000, generator=generator, dtype=torch.float64)
    temperature = torch.full((20_000,), 0.7)
    tokens, logprobs = sample(logits, temperature, uniform)
    expected = torch.softmax(logits[0] / 0.7, dim=-1)
    observed = torch.bincount(tokens, minlength=8) / 20_000
    assert (observed - expected).abs().max() < 0.015
    assert torch.allclose(logprobs, expected.log()[tokens])


def test_greedy_takes_the_most_likely_and_scores_at_temperature_one() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    tokens, logprobs = sample(logits, torch.zeros(1), torch.tensor([0.999], dtype=torch.float64))
    assert tokens.tolist() == [1]
    assert torch.allclose(logprobs, torch.log_softmax(logits, dim=-1)[:, 1])


def test_the_ends_of_the_unit_interval_stay_inside_the_vocabulary() -> None:
    logits = torch.tensor([[-1e9, 0.0, -1e9], [-1e9, 0.0, -1e9]])
    uniform = torch.tensor([0.0, 1.0 - 2.0**-53], dtype=torch.float64)
    assert sample(logits, torch.ones(2), uniform)[0].tolist() == [1, 1]
