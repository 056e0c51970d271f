"""Fork Pac-Man episodes in the middle, and learn from what became of the siblings.

Four episodes of a task are forked after three turns each: siblings share these turns and part
there, so the difference of their returns is due to what came later. Credit by `tree` compares the
stretches that begin at the same state; every turn is learned from once.
Try it: `python examples/tree_rollouts.py` (about a minute of CPU; `--steps 20` to get better).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from turnhalle.agents.core import Group, Trajectory
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.limits import BranchOptions
from turnhalle.agents.players import open_policy
from turnhalle.agents.rollout import Job, rollout_groups
from turnhalle.agents.tree import grow_tree
from turnhalle.config import load_options
from turnhalle.envs.registry import resolve
from turnhalle.training.credit.assign import assign_credit
from turnhalle.training.credit.episodes import read_episodes
from turnhalle.training.credit.options import CreditOptions
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Listener
from turnhalle.training.trainer import RunResult, Trainer

FORK_AFTER, SIBLINGS = 3, 3


class Steps(Listener):
    """Prints a line a step."""

    def note(self, text: str) -> None:
        print(text)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        print(f"step {step}: success {metrics['success']:.0%} of the episodes, forked ones too")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    show(play(arguments.task))
    print()
    with TemporaryDirectory() as folder:
        result = train(arguments.steps, Path(folder) / "run")
    print(
        f"{arguments.steps} steps on siblings: success {result.before.success.percent()} -> "
        f"{result.after.success.percent()} on held-out mazes."
    )


def play(task: int) -> Group:
    """Four episodes of a task, each of which goes on as three after its third turn."""
    factory = resolve("pacman")
    policy = open_policy("tiny", factory, Sampling(max_new_tokens=32))
    branch = BranchOptions(at=(FORK_AFTER,), factor=SIBLINGS)
    return rollout_groups(factory, policy, [Job("train", task)], 4, branch=branch)[0]


def show(group: Group) -> None:
    """The siblings, what their stretches are worth, and what the tree saves."""
    credit = assign_credit(read_episodes([group]), CreditOptions(estimator="tree"))
    print("episode  forked from  return  worth of turns before and after the fork")
    for row, trajectory in enumerate(group.trajectories):
        origin = "-" if trajectory.fork_parent is None else str(trajectory.fork_parent)
        worth = credit.worth[row]
        own = f"{worth[0]:+.2f}  " if trajectory.fork_parent is None else "       "
        later = f"{worth[FORK_AFTER]:+.2f}" if has_later_turns(trajectory) else "ended before"
        print(
            f"{trajectory.sample:7}  {origin:>11}  {trajectory.episode_return:+.2f}   {own}{later}"
        )
    tree = grow_tree(group.trajectories)
    tokens = sum(trajectory.num_tokens for trajectory in group.trajectories)
    print(f"{tokens} tokens of {len(group.trajectories)} episodes are {tree.num_nodes} nodes.")


def has_later_turns(trajectory: Trajectory) -> bool:
    return len(trajectory.turns) > FORK_AFTER


def train(steps: int, folder: Path) -> RunResult:
    """Train the built-in policy on forked episodes; `turnhalle train --set ...` does the same."""
    sets = [
        f"rollout.branch.at=[{FORK_AFTER}]",
        f"rollout.branch.factor={SIBLINGS}",
        "rollout.group_size=4",
        "credit.estimator=tree",
        "evaluate.tasks=50",
        "evaluate.every=0",
    ]
    given = {"env.id": "pacman", "steps": steps}
    options = load_options(TrainOptions, "quickstart", given, sets)
    trainer = Trainer(options, folder, Steps())
    try:
        return trainer.run()
    finally:
        trainer.close()


if __name__ == "__main__":
    main()
