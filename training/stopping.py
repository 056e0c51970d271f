"""When a run ends before its last step: it has what was asked for, or the policy collapses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field

History = Callable[[str], list[tuple[int, float]]]
"""Step and value of a metric, in order."""


class StopOptions(BaseModel):
    """Reasons to stop early; every one is off by default."""

    model_config = ConfigDict(extra="forbid")

    at_success: float | None = Field(None, gt=0, le=1)
    """Stop once an evaluation has this success."""
    min_entropy: float | None = Field(None, gt=0)
    """Stop once the entropy, in nats a token, is below this: the policy no longer explores."""
    max_kl: float | None = Field(None, gt=0)
    """Stop once an update moves the policy by more than this, in nats a token."""
    reward_spike: float | None = Field(None, gt=0)
    """Stop once the return exceeds the mean of the last `window` steps by this many of their
    standard deviations while success does not exceed its own, or while there are more signs of
    tampering (`hack_flags`) than in any of them: reward that nothing was done for is a hack."""
    window: int = Field(8, ge=3)
    """Steps that a spike is measured against."""
    patience: int = Field(3, ge=1)
    """Steps in a row that entropy, KL or reward must be out of bounds."""


def reason_to_stop(history: History, options: StopOptions) -> str | None:
    """Why the run should end after its last step, in words; None where it should not.

    It depends on the recorded metrics alone, so a resumed run decides as the first one did.
    """
    # The evaluation before training is no reason: nothing was learned yet.
    reached = [value for step, value in history("eval/success") if step > 0]
    if options.at_success is not None and reached and reached[-1] >= options.at_success:
        return (
            f"success on held-out tasks is {reached[-1]:.3f} and reached stop.at_success = "
            f"{options.at_success}"
        )
    entropy, low = _last(history, "entropy", options), options.min_entropy
    if low is not None and entropy and max(entropy) < low:
        return _collapse("entropy", entropy, f"below stop.min_entropy = {low}", "a lower rate")
    kl, high = _last(history, "kl", options), options.max_kl
    if high is not None and kl and min(kl) > high:
        return _collapse("KL of the update", kl, f"above stop.max_kl = {high}", "a lower rate")
    if options.reward_spike is not None and _is_spike(history, options):
        returns = [value for _, value in history("return")][-options.patience :]
        bound = (
            f"above stop.reward_spike = {options.reward_spike} deviations, without more success or "
            f"with more signs of tampering (hack_flags {_flags(history)[-1]:.3g} a turn)"
        )
        return _collapse("return", returns, bound, "a look at the best-paid episodes")
    return None


def _last(history: History, name: str, options: StopOptions) -> list[float]:
    """The last `patience` values; none where there are fewer."""
    values = [value for _, value in history(name)]
    return values[-options.patience :] if len(values) >= options.patience else []


def _collapse(name: str, values: Sequence[float], bound: str, remedy: str) -> str:
    shown = ", ".join(f"{value:.3g}" for value in values)
    return f"collapse: {name} of the last {len(values)} steps ({shown}) is {bound}; try {remedy}"


def _is_spike(history: History, options: StopOptions) -> bool:
    returns = [value for _, value in history("return")]
    success = [value for _, value in history("success")]
    flags = _flags(history)
    if len(returns) < options.window + options.patience:
        return False
    before = slice(-options.window - options.patience, -options.patience)
    last = slice(-options.patience, None)
    bound = statistics.mean(returns[before])
    bound += (options.reward_spike or 0.0) * statistics.stdev(returns[before])
    usual, most = statistics.mean(success[before]), max(flags[before])
    return all(
        paid > bound and (did <= usual or flagged > most)
        for paid, did, flagged in zip(returns[last], success[last], flags[last], strict=True)
    )


def _flags(history: History) -> list[float]:
    """Signs of tampering a turn by step; a step without any has no such metric."""
    flagged = dict(history("hack_flags"))
    return [flagged.get(step, 0.0) for step, _ in history("return")]
