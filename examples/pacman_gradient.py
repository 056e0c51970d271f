"""One Pac-Man episode, from its rewards to a gradient: REINFORCE, PPO and GRPO side by side.

A group of episodes of one task is played; the best of them is followed turn by turn.
Try it: `python examples/pacman_gradient.py` (about 15 CPU-seconds; `--plot FILE.svg` draws it).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.core import Group
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Job, rollout_groups
from turnhalle.envs.registry import resolve
from turnhalle.training.batch import Batch, lay_out
from turnhalle.training.credit.assign import assign_credit
from turnhalle.training.credit.episodes import Episodes, read_episodes
from turnhalle.training.credit.options import CreditOptions
from turnhalle.training.learn_options import LearnOptions
from turnhalle.training.learner import Learner
from turnhalle.training.losses.kl import kl_estimate
from turnhalle.training.losses.options import LossOptions
from turnhalle.training.objective import Objective
from turnhalle.training.scoring import score

GAMMA, GROUP, RATE = 0.95, 8, 1e-2
ALGORITHMS = {
    "REINFORCE": (CreditOptions(estimator="reinforce"), LossOptions(name="reinforce")),
    "PPO": (CreditOptions(estimator="ppo", gamma=GAMMA, is_whitened=False), LossOptions()),
    "GRPO": (CreditOptions(estimator="grpo"), LossOptions()),
}
Moved = dict[str, NDArray[np.float32]]
"""By algorithm `[M]`: log-probs of the batch's tokens after its update."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    group = play(arguments.task)
    episodes, batch = read_episodes([group]), lay_out([group])
    # A critic that knows nothing yet expects 0: PPO's advantages are then discounted sums.
    episodes = episodes.with_values(np.zeros_like(episodes.rewards))
    row = int(np.argmax(episodes.returns))
    print(
        f"A group of {GROUP} episodes of Pac-Man task {arguments.task}; episode {row} in detail.\n"
    )
    show_rewards(group, episodes, row)
    worth = {
        name: assign_credit(episodes, credit).worth for name, (credit, _) in ALGORITHMS.items()
    }
    show_credit(episodes, worth, row)
    moved = {name: update(batch, episodes, name) for name in ALGORITHMS}
    show_updates(batch, moved, row)
    if arguments.plot:
        draw(episodes, worth, batch, moved, row, arguments.plot)


def play(task: int) -> Group:
    """The episodes of one task, from the same start and with the same ghosts."""
    lm = load_model(ModelOptions(precision="fp32", device="cpu"), lora_seed=0)
    tune_process(lm.num_parameters)
    chat = load_chat("tiny", ChatOptions())
    policy = LLMPolicy("tiny", TransformersEngine(lm), chat, Sampling(max_new_tokens=32))
    return rollout_groups(resolve("pacman"), policy, [Job("train", task)], GROUP)[0]


def show_rewards(group: Group, episodes: Episodes, row: int) -> None:
    """1. What the environment paid, and the return that follows from it."""
    to_go = episodes.returns_to_go(GAMMA)
    print("1. Rewards, and returns to go: R_t = r_t + 0.95 R_{t+1}")
    print("turn  action                          reward  return to go")
    for turn, exchange in enumerate(group.trajectories[row].turns):
        action = " ".join(exchange.action.split())[:30]
        print(f"{turn:4}  {action:30}  {exchange.reward:6.2f}  {to_go[row, turn]:12.3f}")
    print(f"return of the episode: {episodes.returns[row]:.2f}")
    print("returns of the group: ", " ".join(f"{r:.2f}" for r in episodes.returns), "\n")


def show_credit(episodes: Episodes, worth: dict[str, NDArray[np.float64]], row: int) -> None:
    """2. What each turn is worth: the return against a baseline."""
    returns = episodes.returns
    others = (returns.sum() - returns[row]) / (len(returns) - 1)
    mean, deviation = returns.mean(), returns.std(ddof=1)
    print("2. Baselines and advantages")
    print(f"REINFORCE: mean of the other episodes {others:.3f}; A = R - {others:.3f}")
    print("PPO:       the critic (0 before it has learned); A_t = sum (0.95 * 0.95)^k delta_{t+k}")
    print(f"GRPO:      mean {mean:.3f}, deviation {deviation:.3f}; A = (R - mean) / deviation")
    print("turn  " + "".join(f"{name:>10}" for name in worth))
    for turn in range(int(episodes.num_turns[row])):
        print(f"{turn:4}  " + "".join(f"{w[row, turn]:10.3f}" for w in worth.values()))
    print()


def update(batch: Batch, episodes: Episodes, name: str) -> NDArray[np.float32]:
    """Four epochs on the group, from the same start each; the log-probs afterwards `[M]`."""
    credit, loss = ALGORITHMS[name]
    lm = load_model(ModelOptions(precision="fp32", device="cpu"), lora_seed=0)
    options = LearnOptions(minibatches=1, epochs=4, max_grad_norm=1.0)
    learner = Learner(lm, options, 1.0, Objective(loss=loss))
    chosen = batch.with_credit(assign_credit(episodes, credit))
    if chosen.num_rows:
        learner.update(chosen, RATE, seed=0)
    with torch.no_grad():
        logprobs: NDArray[np.float32] = score(lm, batch, 1.0).logprobs.numpy()
    return logprobs


def show_updates(batch: Batch, moved: Moved, row: int) -> None:
    """3. How far four steps moved the policy: ratio, clip and KL of each turn."""
    print("3. After four steps on this group: ratio of each turn's tokens (mean), tokens out of")
    print("   [0.8, 1.2], and k3 estimate of the KL in nats a token")
    print("turn  " + "".join(f"{name:>24}" for name in moved))
    sequence = batch.episode[batch.sequence]
    for turn in np.unique(batch.turn[sequence == row]):
        mine = (sequence == row) & (batch.turn == turn)
        cells = (_change(batch.old_logprob[mine], new[mine]) for new in moved.values())
        print(f"{turn:4}  " + "".join(f"{cell:>24}" for cell in cells))
    cells = (_change(batch.old_logprob, new) for new in moved.values())
    print("all   " + "".join(f"{cell:>24}" for cell in cells))


def _change(old: NDArray[np.float32], new: NDArray[np.float32]) -> str:
    ratio = np.exp(new - old)
    outside = np.mean((ratio < 0.8) | (ratio > 1.2))
    # The samples are the old policy's, so the estimate is of KL(old || new).
    kl = kl_estimate(torch.from_numpy(old), torch.from_numpy(new), "k3").mean()
    return f"{ratio.mean():.2f} {outside:4.0%} {float(kl):.4f}"


def draw(
    episodes: Episodes,
    worth: dict[str, NDArray[np.float64]],
    batch: Batch,
    moved: Moved,
    row: int,
    path: Path,
) -> None:
    """Rewards, advantages and ratios of the episode, one panel each."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    turns = np.arange(episodes.num_turns[row])
    figure, (first, second, third) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    first.bar(turns, episodes.rewards[row, turns], color="0.7", label="reward")
    first.plot(turns, episodes.returns_to_go(GAMMA)[row, turns], "k.-", label="return to go")
    mine = batch.episode[batch.sequence] == row
    for number, name in enumerate(worth):
        second.plot(turns, worth[name][row, turns], f"C{number}.-", label=name)
        ratio = np.exp(moved[name][mine] - batch.old_logprob[mine])
        third.plot(ratio, f"C{number}.", ms=3, label=name)
    third.axhspan(0.8, 1.2, color="0.9", zorder=0)
    for axes, title in ((first, "what was paid"), (second, "advantage"), (third, "ratio")):
        axes.set(title=title, xlabel="token" if axes is third else "turn")
        axes.legend(frameon=False, fontsize=8)
    with plt.rc_context({"svg.hashsalt": "turnhalle"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
