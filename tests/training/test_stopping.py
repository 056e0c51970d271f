"""Early stops: what was asked for, or a collapse, with the reason in words."""

from __future__ import annotations

from typing import Any

import pytest

from turnhalle.training.stopping import History, StopOptions, reason_to_stop


def history(**metrics: list[float]) -> History:
    return lambda name: list(enumerate(metrics.get(name, []), start=1))


def test_nothing_stops_a_run_by_default() -> None:
    wild = history(**{"eval/success": [1.0], "entropy": [0.0] * 9, "kl": [1e9] * 9})
    assert reason_to_stop(wild, StopOptions()) is None


def test_it_stops_at_the_success_that_was_asked_for() -> None:
    options = StopOptions(at_success=0.9)
    assert reason_to_stop(history(**{"eval/success": [0.95, 0.89]}), options) is None
    reason = reason_to_stop(history(**{"eval/success": [0.2, 0.9]}), options)
    assert reason is not None
    assert "reached stop.at_success = 0.9" in reason
    assert reason_to_stop(lambda name: [(0, 1.0)], options) is None  # before training


@pytest.mark.parametrize(
    ("name", "options", "bad", "good"),
    [
        ("entropy", StopOptions(min_entropy=0.1, patience=2), 0.05, 0.2),
        ("kl", StopOptions(max_kl=0.5, patience=2), 0.7, 0.1),
    ],
)
def test_a_collapse_must_last(name: str, options: StopOptions, bad: float, good: float) -> None:
    assert reason_to_stop(history(**{name: [bad]}), options) is None
    assert reason_to_stop(history(**{name: [bad, good]}), options) is None
    assert reason_to_stop(history(**{name: [good, bad]}), options) is None
    reason = reason_to_stop(history(**{name: [good, bad, bad]}), options)
    assert reason is not None
    assert f"{bad}, {bad}" in reason


def test_reward_that_jumps_without_success_is_a_hack() -> None:
    options = StopOptions(reward_spike=4.0, window=4, patience=2)
    usual, success = [0.5, 0.6, 0.4, 0.5], [0.5, 0.5, 0.6, 0.4]

    def reason(paid: list[float], did: list[float], flags: Any = ()) -> str | None:
        given = history(**{"return": usual + paid, "success": success + did})
        return reason_to_stop(
            lambda name: list(flags) if name == "hack_flags" else given(name), options
        )

    assert "reward_spike" in (reason([2.0, 2.1], [0.4, 0.5]) or "")
    assert reason([2.0, 2.1], [0.9, 0.9]) is None  # success rose with it
    said = reason([2.0, 2.1], [0.9, 0.9], [(1, 0.1), (5, 0.3), (6, 0.25)])
    assert "more signs of tampering (hack_flags 0.25 a turn)" in (said or "")
    assert reason([2.0, 2.1], [0.9, 0.9], [(1, 0.3), (5, 0.3), (6, 0.4)]) is None  # not more
    assert reason([2.0, 2.1], [0.9, 0.9], [(6, 0.3)]) is None  # not in every step
    assert reason([0.5, 0.5], [0.9, 0.9], [(5, 0.3), (6, 0.3)]) is None  # it did not pay
    assert reason([2.0, 0.5], [0.4, 0.5]) is None  # it did not last
    assert reason([0.7, 0.7], [0.4, 0.5]) is None  # no jump
    assert reason_to_stop(history(**{"return": [9.0] * 5, "success": [0.0] * 5}), options) is None
