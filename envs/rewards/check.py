"""The audit of a reward: does it say of its fixtures what it must?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

from ..errors import RewardError
from .base import Fixture, FixtureKind, Reward, Score

_TOLERANCE = 1e-9


def check_reward(reward: Reward) -> list[str]:
    """What is wrong with a reward: its range, its fixtures, its determinism; empty where nothing.

    A judge or model is asked for real, so the check needs what the reward needs.
    """
    low, high = reward.range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        return [f"declares the range {reward.range!r}, which is none"]
    if not reward.name:
        return ["has no name"]
    fixtures = reward.fixtures()
    missing = set(get_args(FixtureKind)) - {fixture.kind for fixture in fixtures}
    problems = [f"has no fixture of kind {kind!r}" for kind in sorted(missing)]
    return problems + [problem for fixture in fixtures for problem in _check(reward, fixture)]


def _check(reward: Reward, fixture: Fixture) -> Iterator[str]:
    try:
        score = reward(fixture.sample)
        again = reward(fixture.sample)
    except RewardError as error:
        yield f"{fixture.kind}: {error}"
        return
    said = f"{fixture.kind}: {fixture.sample.action[:40]!r} earned {_shown(score)}"
    if not _is_within(score, fixture):
        wanted = _shown(fixture.low)
        if fixture.high != fixture.low:
            wanted += f" to {_shown(fixture.high)}"
        yield f"{said} instead of {wanted}"
    elif score != again:
        yield f"{said}, and then {_shown(again)}"
    elif fixture.kind == "full" and fixture.high != reward.range[1]:
        yield f"full: its fixture expects {_shown(fixture.high)}, which is not the top"


def _is_within(score: Score, fixture: Fixture) -> bool:
    if score is None or fixture.low is None or fixture.high is None:
        return score is None and fixture.low is None
    return fixture.low - _TOLERANCE <= score <= fixture.high + _TOLERANCE


def _shown(score: Score) -> str:
    return "silence" if score is None else f"{score:g}"
