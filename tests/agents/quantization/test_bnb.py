"""bitsandbytes, kept exact: its bugs on the CPU, formats by folder, and nothing merged."""

from __future__ import annotations

import logging
from typing import Any

import bitsandbytes as bnb
import pytest
import torch

from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.quantization.bnb import guard_cpu


def load(folder: Any, precision: str, lora_seed: int | None = None) -> Any:
    options = ModelOptions(name=str(folder), precision=precision, device="cpu")  # type: ignore[arg-type]
    return load_model(options, lora_seed=lora_seed)


def test_layers_that_bitsandbytes_dequantises_wrongly_stay_in_32_bits(
    make_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug 1: where in_features is no multiple of 64, what comes back is not what went in."""
    folder = make_model(hidden=96)
    with caplog.at_level(logging.WARNING):
        lm = load(folder, "nf4")
    odd = [n for n, m in lm.model.named_modules() if getattr(m, "in_features", 64) % 64]
    assert odd
    assert "stay in 32 bits" in caplog.text
    for name, module in lm.model.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            assert module.in_features % 64 == 0, name
    plain = load(folder, "fp32")
    ids = torch.arange(3, 30)[None]
    error = (lm.hidden_states(ids) - plain.hidden_states(ids)).norm() / plain.hidden_states(
        ids
    ).norm()
    assert error < 0.3  # what NF4 costs a random model; the bug costs about 1


def test_evaluation_mode_does_not_change_the_log_probs(make_model: Any) -> None:
    """Bug 2: an eval forward without gradients repacks the weights and changes the numbers."""
    lm = load(make_model(), "nf4", lora_seed=0)
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        lm.model.eval()
        evaluated = lm.head(lm.hidden_states(ids)).log_softmax(-1)
        lm.model.train()
        trained = lm.head(lm.hidden_states(ids)).log_softmax(-1)
    assert torch.equal(evaluated, trained)


def test_gradients_are_right_after_an_evaluation(make_model: Any) -> None:
    """Bug 3: after the repacking no gradient flows back through the base weights."""

    def gradients(evaluate_first: bool) -> torch.Tensor:
        lm = load(make_model(), "nf4", lora_seed=0)
        ids = torch.arange(3, 60)[None]
        if evaluate_first:
            with torch.no_grad():
                lm.model.eval()
                lm.hidden_states(ids)
        lm.head(lm.hidden_states(ids)).log_softmax(-1)[..., 5].sum().backward()
        return torch.cat([p.grad.flatten() for p in lm.trainable().values() if p.grad is not None])

    assert torch.allclose(gradients(True), gradients(False), rtol=1e-4, atol=1e-6)


def test_the_guard_reaches_every_quantised_layer() -> None:
    layers = torch.nn.ModuleList([bnb.nn.Linear4bit(64, 64), bnb.nn.Linear4bit(64, 64)])
    for layer in layers:
        layer.support_avx512bf16_for_cpu = True
    guard_cpu(layers)
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
