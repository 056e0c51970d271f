"""Log-probs from hidden states: values, gradients, and the same in chunks."""

from __future__ import annotations

import pytest
import torch

from turnhalle.kernels import logprob


def problem(rows: int = 7, width: int = 5, vocabulary: int = 499) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64) * 3
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    return hidden, weight, targets


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [2**24, 1000])
def test_values_and_gradients_are_those_of_the_full_softmax(
    temperature: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logprob, "MAX_CHUNK_LOGITS", chunk)
    hidden, weight, targets = problem()
    hidden.requires_grad_(True)
    ours, entropy = logprob.token_logprobs(hidden, lambda h: h @ weight.T, targets, temperature)
    full = (hidden @ weight.T / temperature).log_softmax(-1)
    plain = full[torch.arange(7), targets]
    assert torch.allclose(ours.double(), plain, atol=1e-5)
    assert torch.allclose(entropy.double(), -(full.exp() * full).sum(-1), atol=1e-5)
    assert not entropy.requires_grad
    (a,) = torch.autograd.grad(ours.sum(), hidden, retain_graph=True)
    (b,) = torch.autograd.grad(plain.sum(), hidden)
    assert torch.allclose(a, b, atol=1e-5)


def test_no_rows_give_no_log_probs_and_a_gradient_of_zero() -> None:
    hidden, weight, _ = problem()
    hidden = hidden[:0].requires_grad_(True)
    ours, entropy = logprob.token_logprobs(
        hidden, lambda h: h @ weight.T, torch.zeros(0, dtype=torch.long)
    )
    assert ours.shape == entropy.shape == (0,)
    ours.sum().backward()


def test_large_logits_stay_finite() -> None:
    hidden = torch.full((1, 2), 1e4)
    weight = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]])
    ours, _ = logprob.token_logprobs(hidden, lambda h: h @ weight.T, torch.tensor([0]))
    assert ours.item() == pytest.approx(-0.6931, abs=1e-3)
