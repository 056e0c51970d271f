"""What tests of several engines share."""

from __future__ import annotations

import importlib.util
import random
from typing import Any

import pytest
import torch

from turnhalle.agents.engines.base import Completion, Engine, Request, Sampling
from turnhalle.agents.lm import LanguageModel

STOP = frozenset({1})

WITH_VLLM = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, and of PyTorch's C++ side
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm"
    ),
]


def run(engine: Engine, requests: list[Request]) -> dict[int, Completion]:
    """Submit turns and let the engine advance until all are done; completions by session."""
    for request in requests:
        engine.submit(request)
    done: dict[int, Completion] = {}
    while len(done) < len(requests):
        done |= {completion.session: completion for completion in engine.step()}
    return done


@torch.no_grad()
def teach(lm: LanguageModel, seed: int, scale: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lm.trainable().items():
        if ".lora_B." in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def prompt(seed: int, length: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(2, 512) for _ in range(length)]


def ask(session: int, ids: list[int], new: int = 16, temperature: float = 1.0) -> Request:
    sampling = Sampling(max_new_tokens=new, temperature=temperature)
    return Request(session, ids, session, sampling, STOP)


@torch.no_grad()
def score(lm: LanguageModel, context: list[int], sampled: list[int], temperature: float) -> Any:
    """Log-probs of the sampled tokens, by one plain forward pass of the whole model."""
    logits = lm.model(input_ids=torch.tensor([context + sampled]), use_cache=False).logits[0]
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    first = len(context)
    return [float(logprobs[first + i - 1, token]) for i, token in enumerate(sampled)]


def assert_exact(lm: LanguageModel, asked: list[Request], done: dict[int, Completion]) -> None:
    for request in asked:
        completion = done[request.session]
        temperature = request.sampling.temperature or 1.0
        expected = score(lm, request.token_ids, completion.token_ids, temperature)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)
