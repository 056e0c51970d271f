"""How fast trajectories become a token tree: ours, and a trie of dictionaries a token at a time.

CPU-seconds, one thread, interleaved, the median of seven: `python benchmarks/token_tree.py`.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from turnhalle.agents.core import Segment, Trajectory, Turn
from turnhalle.agents.tree import branches, grow_tree
from turnhalle.envs.tasks import Task

ROUNDS = 7
TASK = Task("bench/Tree-v0", "train", 0, 1, {}, 0)


def group(
    rollouts: int, turns: int, observed: int, sampled: int, *, rewrites: bool
) -> list[Trajectory]:
    """Rollouts of one prompt of 200 tokens; with `rewrites` every turn drops half of the last."""
    rng = random.Random(0)
    prompt = [rng.randrange(30_000) for _ in range(200)]
    made = []
    for sample in range(rollouts):
        played, at = [], 0
        for number in range(turns):
            seen = [rng.randrange(30_000) for _ in range(observed)] if number else prompt
            parent = None
            if rewrites and number:
                at -= sampled // 2
                parent = at - 1
            drawn = [rng.randrange(30_000) for _ in range(sampled)]
            segments = [Segment(seen, parent=parent), Segment(drawn, [-1.0] * sampled, 1)]
            played.append(Turn("", "", 0.0, {}, segments))
            at += len(seen) + sampled
        made.append(Trajectory(TASK, sample, played))
    return made


def dictionaries(trajectories: list[Trajectory]) -> int:
    """Nodes of the same tree, by a dictionary from (parent, token) to node."""
    nodes: dict[tuple[int, int], int] = {}
    for trajectory in trajectories:
        for branch in branches(trajectory):
            node = -1
            for token in branch.token_ids.tolist():
                node = nodes.setdefault((node, token), len(nodes))
    return len(nodes)


def seconds(work: Callable[[list[Trajectory]], object], on: list[Trajectory], repeat: int) -> float:
    start = time.process_time()
    for _ in range(repeat):
        work(on)
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    shapes = {
        "8 rollouts x 3 turns x 32": group(8, 3, 16, 32, rewrites=False),
        "16 x 20 x 200": group(16, 20, 100, 200, rewrites=False),
        "16 x 20 x 200, rewritten": group(16, 20, 100, 200, rewrites=True),
    }
    print(f"{'group':28} {'nodes':>8} {'rows':>8} {'ours, M nodes/s':>16} {'dictionaries':>13}")
    for name, trajectories in shapes.items():
        tree = grow_tree(trajectories)
        assert tree.num_nodes == dictionaries(trajectories)
        repeat = max(1, 100_000 // tree.num_nodes)
        times: dict[str, list[float]] = {"ours": [], "dictionaries": []}
        for _ in range(ROUNDS):
            times["ours"].append(seconds(grow_tree, trajectories, repeat))
            times["dictionaries"].append(seconds(dictionaries, trajectories, repeat))
        ours, theirs = (
            repeat * tree.num_nodes / statistics.median(times[key]) / 1e6 for key in times
        )
        print(f"{name:28} {tree.num_nodes:8} {tree.num_rows:8} {ours:16.2f} {theirs:13.2f}")


if __name__ == "__main__":
    main()
