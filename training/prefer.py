"""Preference tuning: what people or a reward model prefer becomes more likely than the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field

from turnhalle.agents.lm import LanguageModel

from .losses.dpo import dpo
from .pairs import Pair
from .sft import SftOptions, action_logprobs, batches_of, descend


class PreferOptions(SftOptions):
    """How to learn from pairs; steps, rates and batches as in imitation."""

    steps: int = Field(100, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    """Preferences move less than imitation: the start is the reference."""
    beta: float = Field(0.1, gt=0)
    """See `training/losses/dpo.py`."""


def prefer(
    lm: LanguageModel,
    pairs: Sequence[Pair],
    options: PreferOptions,
    seed: int,
    on_step: Callable[[int, float], bool] | None = None,
) -> None:
    """Train a model, or the adapter on it, on pairs.

    The reference is the model as it comes in. What it says of the pairs is computed once, before
    the first step, so no second model is held.

    Args:
        lm: The model; changed in place.
        pairs: What is preferred to what.
        options: How.
        seed: Of the order of the pairs.
        on_step: As in `fit`.
    """
    with torch.no_grad():
        reference = [float(_margins(lm, [pair])[0]) for pair in pairs]
    numbered = list(range(len(pairs)))
    batches = batches_of(numbered, lambda i: 2 * _length(pairs[i]), options.batch_tokens, seed)

    def loss() -> torch.Tensor:
        chosen = next(batches)
        margins = _margins(lm, [pairs[i] for i in chosen])
        wanted = torch.tensor([reference[i] for i in chosen], device=margins.device)
        return dpo(margins, wanted, options.beta).mean()

    descend(lm, loss, options, on_step)


def _margins(lm: LanguageModel, pairs: Sequence[Pair]) -> torch.Tensor:
    """`[N]` log pi(chosen) - log pi(rejected); both answers of all pairs in one pass."""
    examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    logprobs, row = action_logprobs(lm, examples)
    sums = logprobs.new_zeros(len(examples)).index_add(0, row, logprobs)
    return sums[: len(pairs)] - sums[len(pairs) :]


def _length(pair: Pair) -> int:
    return max(len(pair.chosen.token_ids), len(pair.rejected.token_ids))
