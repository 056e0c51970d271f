"""The numbers of a step, computed from its episodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from turnhalle.agents.core import Group
from turnhalle.agents.evaluate import fault_rates

from .credit.assign import Credit
from .credit.episodes import Floats


def rollout_metrics(groups: Sequence[Group], credit: Credit) -> dict[str, float]:
    """What the rollouts of a step say, masked episodes left out of the means.

    `success` and `return` are means over episodes, `turns` and `tokens` too (`tokens` counts
    sampled ones); `skipped_groups` had no variance, `masked_episodes` failed for reasons of ours.
    `faults/<kind>` are tool calls that went wrong in that way, a mean over turns; `hack_flags` is
    the sum of those that are signs of tampering (`tamper/...`), where there are any.
    """
    episodes = [t for group in groups for t in group.trajectories]
    counted = [t for t in episodes if not t.is_masked]
    n = max(1, len(counted))
    parts: dict[str, float] = {}
    for trajectory in counted:
        for turn in trajectory.turns:
            for name, value in turn.parts.items():
                parts[f"reward/{name}"] = parts.get(f"reward/{name}", 0.0) + value / n
    faults = fault_rates(counted)
    rates = {f"faults/{kind}": rate for kind, rate in faults.items()}
    if flags := sum(rate for kind, rate in faults.items() if kind.startswith("tamper/")):
        rates["hack_flags"] = flags
    return {
        "success": sum(t.success for t in counted) / n,
        "return": sum(t.episode_return for t in counted) / n,
        "turns": sum(len(t.turns) for t in counted) / n,
        "tokens": sum(t.num_sampled for t in counted) / n,
        "skipped_groups": float(credit.num_groups - credit.num_teaching),
        "masked_episodes": float(len(episodes) - len(counted)),
        **parts,
        **rates,
    }


def staleness(groups: Sequence[Group], version: int) -> dict[str, float]:
    """How many updates sampled tokens are behind adapter `version`: their mean, and the most."""
    segments = [
        s for g in groups for t in g.trajectories for turn in t.turns for s in turn.segments
    ]
    sampled = [s for s in segments if s.is_sampled]
    behind = [version - s.adapter_version for s in sampled]
    tokens = [len(s.token_ids) for s in sampled]
    if not sum(tokens):
        return {}
    mean = sum(b * n for b, n in zip(behind, tokens, strict=True)) / sum(tokens)
    return {"staleness": mean, "staleness_max": float(max(behind))}


def critic_metrics(values: Floats, targets: Floats) -> dict[str, float]:
    """How right the critic was before the update: `[E, K]`, targets NaN where there is none.

    `value_loss` is the mean of its squared errors by 2; `explained_variance` is 1 where it knew
    every return, 0 where a constant would do as well.
    """
    known = ~np.isnan(targets)
    error = targets[known] - values[known]
    if not len(error):
        return {}
    spread = float(np.var(targets[known]))
    return {
        "value_loss": float(np.mean(error**2)) / 2.0,
        "explained_variance": 1.0 - float(np.var(error)) / spread if spread else 0.0,
    }


def add_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums of what parts of a batch come to, by name."""
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total
