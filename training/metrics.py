"""The numbers of a step, computed from its episodes."""

from __future__ import annotations

from collections.abc import Sequence

from turnhalle.agents.core import Group
from turnhalle.agents.evaluate import fault_rates

from .credit import Advantages


def rollout_metrics(
    groups: Sequence[Group], credits: Sequence[Advantages | None]
) -> dict[str, float]:
    """What the rollouts of a step say, masked episodes left out of the means.

    `success` and `return` are means over episodes, `turns` and `tokens` too (`tokens` counts
    sampled ones); `skipped_groups` had no variance, `masked_episodes` failed for reasons of ours.
    `faults/<kind>` are tool calls that went wrong in that way, a mean over turns.
    """
    episodes = [t for group in groups for t in group.trajectories]
    counted = [t for t in episodes if not t.is_masked]
    n = max(1, len(counted))
    parts: dict[str, float] = {}
    for trajectory in counted:
        for turn in trajectory.turns:
            for name, value in turn.parts.items():
                parts[f"reward/{name}"] = parts.get(f"reward/{name}", 0.0) + value / n
    rates = {f"faults/{kind}": rate for kind, rate in fault_rates(counted).items()}
    return {
        "success": sum(t.success for t in counted) / n,
        "return": sum(t.episode_return for t in counted) / n,
        "turns": sum(len(t.turns) for t in counted) / n,
        "tokens": sum(t.num_sampled for t in counted) / n,
        "skipped_groups": float(sum(credit is None for credit in credits)),
        "masked_episodes": float(len(episodes) - len(counted)),
        **parts,
        **rates,
    }
