"""Parity: does the engine sample from the policy that the trainer has?

Two looks. Before training a random adapter is planted in both, for a fresh one changes nothing and
could not be missed. Later the log-probs of real tokens are compared. What differs is named: the
engine samples from the base, or from something else.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any

import torch

from turnhalle.envs.errors import EngineError
from turnhalle.kernels.logprob import token_logprobs

from ..lm import LanguageModel
from .base import Engine, Request, Sampling

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.5, torch.float16: 0.1}
"""Most that trainer and engine may differ on a token's log-prob, by the dtype they compute in.
In 16 bits the mean must also stay below a tenth of it (measured: bf16 max 0.2, mean 0.04)."""

_PROBE_TURNS, _PROBE_PROMPT, _PROBE_TOKENS = 4, 16, 16
_PROBE_SCALES = (0.02, 0.1, 0.5, 2.5)
"""Standard deviations of the planted B, tried until the adapter is felt."""
_PROBE_TEMPERATURES = (1.0, 10.0)
"""A model that is sure of every token feels nothing at the first."""

Score = Callable[[], torch.Tensor]
_Turn = tuple[list[int], list[int], list[float]]


@torch.no_grad()
def require_parity(lm: LanguageModel, engine: torch.Tensor, score: Score) -> float:
    """Compare an engine's log-probs with the trainer's.

    Args:
        lm: The trainer's model.
        engine: `[M]` log-probs that the engine sampled the tokens with.
        score: Gives the trainer's log-probs `[M]` of the same tokens.

    Returns:
        The largest difference, in nats.

    Raises:
        EngineError: They disagree: what is sampled is not what is trained.
    """
    difference = (score() - engine).abs()
    if _is_within(lm, difference):
        return float(difference.max())
    with _without_adapter(lm):
        is_base = _is_within(lm, (score() - engine).abs())
    why = (
        "The engine samples from the base model: the adapter is not in force."
        if is_base
        else "It is not the base model either: the engine has other weights, or keys and values of "
        "older ones."
    )
    raise EngineError(
        "trainer and engine disagree: log-probs of the same tokens differ by up to "
        f"{difference.max():.2g} nats (mean {difference.mean():.2g}; allowed "
        f"{TOLERANCE[lm.model.dtype]:.2g}). {why} Training would follow a policy that was not "
        "sampled, so it does not go on."
    )


@torch.no_grad()
def require_adapter_in_force(lm: LanguageModel, engine: Engine) -> None:
    """Plant a random adapter in model and engine, sample with it, and take it out again.

    Raises:
        EngineError: The engine samples from the base, or from something else than the trainer has.
    """
    parameters, version = lm.trainable(), engine.adapter_version
    saved = {name: parameter.clone() for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(0)
    try:
        for temperature, scale in product(_PROBE_TEMPERATURES, _PROBE_SCALES):
            for name, parameter in parameters.items():
                if ".lora_B." in name:
                    noise = torch.randn(parameter.shape, generator=generator) * scale
                    parameter.copy_(noise)
            engine.load_adapter(version, parameters)
            if _probe(lm, engine, temperature):
                return
        raise EngineError("a planted adapter changes nothing: is it attached to the model?")
    finally:
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
        engine.load_adapter(version, parameters)


def _probe(lm: LanguageModel, engine: Engine, temperature: float) -> bool:
    """Sample some turns and compare; False where the adapter is too weak to be told from none."""
    turns = _sample(engine, int(lm.config.vocab_size), temperature)
    sampled = torch.tensor([x for _, _, logprobs in turns for x in logprobs]).to(lm.device)
    require_parity(lm, sampled, lambda: _score(lm, turns, temperature))
    with _without_adapter(lm):
        effect = (_score(lm, turns, temperature) - sampled).abs()
    return not _is_within(lm, effect / 3)


def _sample(engine: Engine, vocabulary: int, temperature: float) -> list[_Turn]:
    generator = torch.Generator().manual_seed(1)
    length = min(_PROBE_PROMPT, engine.max_context - 1)
    sampling = Sampling(temperature=temperature, max_new_tokens=_PROBE_TOKENS)
    prompts: dict[int, list[int]] = {}
    for number in range(_PROBE_TURNS):
        ids = torch.randint(vocabulary, (length,), generator=generator)
        prompts[-1 - number] = ids.tolist()  # no session of an episode has a negative number
    for session, prompt in prompts.items():
        engine.submit(Request(session, prompt, -session, sampling, frozenset()))
    turns: list[_Turn] = []
    while len(turns) < len(prompts):
        for done in engine.step():
            if done.error is not None:
                raise EngineError(f"the engine fails at its first turns: {done.error}")
            turns.append((prompts[done.session], done.token_ids, done.logprobs))
            engine.close(done.session)
    return turns


def _score(lm: LanguageModel, turns: list[_Turn], temperature: float) -> torch.Tensor:
    """Log-probs `[M]` of the sampled tokens, by a plain forward pass a turn."""
    scored = []
    for prompt, sampled, _ in turns:
        ids = torch.tensor([prompt + sampled], device=lm.device)
        hidden = lm.hidden_states(ids)[0, len(prompt) - 1 : -1]
        targets = ids[0, len(prompt) :]
        scored.append(token_logprobs(hidden, lm.head, targets, temperature)[0])
    return torch.cat(scored)


def _is_within(lm: LanguageModel, difference: torch.Tensor) -> bool:
    bound = TOLERANCE[lm.model.dtype]
    is_exact = lm.model.dtype == torch.float32
    # Written so that a log-prob that is no number is not within.
    return bool(difference.max() <= bound and (is_exact or difference.mean() <= bound / 10))


def _without_adapter(lm: LanguageModel) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = (
        nullcontext() if lm.peft is None else lm.peft.disable_adapter()
    )
    return context
