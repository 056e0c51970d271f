"""Credit: grids by hand, expectations by enumeration, and TRL's own numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from turnhalle.agents.core import Group, Trajectory, Turn
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.tasks import Task
from turnhalle.training.credit.assign import ESTIMATORS, assign_credit
from turnhalle.training.credit.episodes import Episodes, read_episodes
from turnhalle.training.credit.gae import gae
from turnhalle.training.credit.options import CreditOptions

TASK = Task("x", "train", 0, 1, {})
ALL = list(ESTIMATORS)


def group(
    *episodes: list[float],
    masked: tuple[int, ...] = (),
    cut: tuple[int, ...] = (),
    seen: list[str] | None = None,
) -> Group:
    """Episodes by their rewards; `seen[i][t]` is what episode i sees before turn t."""

    def stop(number: int) -> StopReason:
        if number in masked:
            return StopReason.ENV_ERROR
        return StopReason.CONTEXT if number in cut else StopReason.FINISHED

    trajectories = [
        Trajectory(
            TASK,
            i,
            [
                Turn(seen[i][t] if seen else f"{i}.{t}", "", reward)
                for t, reward in enumerate(rewards)
            ],
            stop=stop(i),
        )
        for i, rewards in enumerate(episodes)
    ]
    return Group(TASK, trajectories)


def worth(groups: list[Group], estimator: Any, **options: Any) -> NDArray[np.float64]:
    """The advantages of the padded grid."""
    return credited(read_episodes(groups), estimator, **options).worth


def credited(episodes: Episodes, estimator: Any, **options: Any) -> Any:
    if estimator == "ppo" and episodes.values is None:
        episodes = replace(episodes, values=np.zeros_like(episodes.rewards))
    return assign_credit(episodes, CreditOptions(estimator=estimator, **options))


def close(got: NDArray[np.float64], wanted: Any) -> bool:
    return np.allclose(got, np.array(wanted), rtol=0, atol=1e-12)


def test_grpo_is_the_z_score_of_the_returns() -> None:
    """The values that TRL 1.16 gives (std with ddof 1, plus 1e-4)."""
    got = worth([group([1.0], [0.0]), group([0.25], [0.25])], "grpo")
    assert got[:, 0] == pytest.approx([0.7070067953, -0.7070067953, 0, 0], abs=1e-10)


def test_outcome_estimators_by_hand() -> None:
    """Returns 1, 0, 0.5 and 3, 1: group means 0.5 and 2, mean of all 1.1."""
    groups = [group([0.5, 0.5], [0.0], [0.5, 0.0]), group([3.0], [1.0])]
    assert close(worth(groups, "dr_grpo")[:, 0], [0.5, -0.5, 0.0, 1.0, -1.0])
    assert close(worth(groups, "rloo")[:, 0], [0.75, -0.75, 0.0, 2.0, -2.0])
    returns = np.array([1.0, 0.0, 0.5, 3.0, 1.0])
    assert close(worth(groups, "reinforce")[:, 0], returns - (5.5 - returns) / 4)
    to_go = np.array([1.0, 0.5, 0.0, 0.5, 0.0, 3.0, 1.0])  # every turn is one sample
    normal = (to_go - to_go.mean()) / (to_go.std(ddof=1) + 1e-4)
    got = worth(groups, "reinforce_pp")
    assert close(got[[0, 0, 1, 2, 2, 3, 4], [0, 1, 0, 0, 1, 0, 0]], normal)


def test_every_turn_of_an_episode_gets_its_credit_and_padding_none() -> None:
    for estimator in ("grpo", "dr_grpo", "rloo", "reinforce"):
        got = worth([group([0.0, 0.5, 0.5], [0.0], [0.25, 0.25])], estimator)
        assert got[0, 0] == got[0, 1] == got[0, 2] != 0.0
        assert got[2, 0] == got[2, 1]
        assert got[1, 1] == got[1, 2] == got[2, 2] == 0.0


def test_rewards_to_go_are_compared_at_the_same_turn() -> None:
    """gamma 0.5: returns to go [1.5, 1], [1, 0, 0], [2]; the third turn is alone."""
    got = worth([group([1.0, 1.0], [1.0, 0.0, 0.0], [2.0])], "reward_to_go", gamma=0.5)
    assert close(got, [[0.0, 1.0, 0.0], [-0.75, -1.0, 0.0], [0.75, 0.0, 0.0]])


def test_gigpo_on_a_grid_by_hand() -> None:
    """Two episodes of three turns; state s is seen three times, u and v once.

    gamma 0.5. Episode 0: rewards 0 0 1, to go .25 .5 1; sees s, u, s. Episode 1: rewards 0 0 0;
    sees s, v, v. Returns 1 and 0: mean-centred episodes +-.5. Anchor s: .25, 1, 0, mean 5/12.
    Anchor v: 0, 0: flat. u: alone.
    """
    groups = [group([0.0, 0.0, 1.0], [0.0, 0.0, 0.0], seen=["sus", "svv"])]
    got = worth(groups, "gigpo", gamma=0.5, is_scaled=False, turn_weight=2.0)
    s = 5 / 12
    assert close(got, [[0.5 + 2 * (0.25 - s), 0.5, 0.5 + 2 * (1 - s)], [-0.5 - 2 * s, -0.5, -0.5]])
    scaled = worth(groups, "gigpo", gamma=0.5)
    z = np.array([1.0, 0.0, 0.25, 1.0, 0.0])
    episode = 0.5 / (z[:2].std(ddof=1) + 1e-4)
    std = z[2:].std(ddof=1) + 1e-4
    assert close(scaled[0], [episode + (0.25 - s) / std, episode, episode + (1 - s) / std])
    assert close(scaled[1], [-episode - s / std, -episode, -episode])


def test_gigpo_never_meets_states_of_another_group() -> None:
    seen = ["a", "a"]
    groups = [group([1.0], [0.0], seen=seen), group([5.0], [5.0], seen=seen)]
    assert close(worth(groups, "gigpo")[2:], np.zeros((2, 1)))


def forked(episodes: Episodes, parent: list[int], turn: list[int]) -> Episodes:
    return replace(episodes, fork_parent=np.array(parent), fork_turn=np.array(turn))


def test_branches_of_a_fork_are_a_group() -> None:
    """Episode 0 has turns a b c; 1 forks from it before b, 2 before c; 3 is another root.

    Returns 0: 1, 1: 0, 2: 3, 3: 0. Root stretches: turn a through 0, 1 and 2, mean 4/3; episode 3,
    0. Fork before b: b of 0 through 0 and 2, mean 2; episode 1, 0. Fork before c: c of 0, 1; 2, 3.
    """
    episodes = read_episodes([group([0.0, 0.0, 1.0], [0.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0])])
    got = credited(forked(episodes, [-1, 0, 0, -1], [0, 1, 2, 0]), "tree").worth
    third = 4 / 3
    assert close(got, [[third, 2.0, -2.0], [0.0, -2.0, 0.0], [0.0, 0.0, 2.0], [-third] * 3])


def test_forks_of_forks_are_compared_where_they_part() -> None:
    """1 forks from 0 before its turn 1, 2 from 1 before turn 2, and 3 from 1 before turn 1."""
    episodes = read_episodes([group([0.0, 1.0], [0.0, 0.0, 4.0], [0.0, 0.0, 2.0], [0.0, 6.0])])
    got = credited(forked(episodes, [-1, 0, 1, 1], [0, 1, 2, 1]), "tree").worth
    # Before turn 1: 0 with 1, 1 (and 2 behind it) with mean 3, 3 with 6.
    assert close(got[:, 1], [1 - 4.5, 3 - 3.5, 0.0, 6 - 2.0])
    assert close(got[:, 2], [0.0, 2.0, -2.0, 0.0])
    assert close(got[:, 0], [0.0] * 4)  # one root: nothing to compare it with


def test_a_tree_without_forks_is_rloo() -> None:
    groups = [group([0.5, 0.5], [0.0], [0.5, 0.0]), group([3.0], [1.0])]
    assert close(worth(groups, "tree"), worth(groups, "rloo"))


@pytest.mark.parametrize("estimator", ALL)
def test_turns_that_a_fork_took_over_are_its_parent_s(estimator: Any) -> None:
    """They have their credit there, and are no second sample of the same turn."""
    rewards = [[0.5, 0.0, 1.0], [0.5, 2.0, 0.0], [0.0, 0.25, 0.5]]
    episodes = forked(read_episodes([group(*rewards, seen=["sts"] * 3)]), [-1, 0, -1], [0, 1, 0])
    assert episodes.is_turn.tolist() == [[True] * 3, [False, True, True], [True] * 3]
    assert episodes.returns.tolist() == [1.5, 2.5, 0.75]
    got = credited(episodes, estimator).worth
    assert got[1, 0] == 0.0
    assert got[[0, 2], 0].all()
    if estimator == "reward_to_go":
        assert close(got[:, 0], [1.5 - 0.75, 0.0, 0.75 - 1.5])


def test_the_critic_learns_nothing_from_turns_that_a_fork_took_over() -> None:
    """It was not even asked about them: their values are no numbers of its."""
    episodes = forked(read_episodes([group([1.0, 1.0], [1.0, 0.0])]), [-1, 0], [0, 1])
    episodes = replace(episodes, values=np.array([[0.5, 0.5], [99.0, 0.5]]))
    advantages, targets = gae(episodes, 1.0, 1.0)
    assert close(advantages, [[1.5, 0.5], [0.0, -0.5]])
    assert close(targets[0], [2.0, 1.0])
    assert np.isnan(targets[1, 0])
    assert targets[1, 1] == 0.0


def test_gae_by_hand() -> None:
    """gamma 0.9, lambda 0.5, rewards 0 1, values 0.2 0.6: delta_1 = 0.4, delta_0 = 0.34."""
    values = np.array([[0.2, 0.6]])
    episodes = replace(read_episodes([group([0.0, 1.0])]), values=values)
    advantages, targets = gae(episodes, 0.9, 0.5)
    assert close(advantages, [[0.34 + 0.45 * 0.4, 0.4]])
    assert close(targets, [[0.52 + 0.2, 1.0]])


def test_gae_with_lambda_one_and_no_critic_is_the_return_to_go() -> None:
    episodes = read_episodes([group([0.0, 1.0, 2.0], [1.0])])
    advantages, _ = gae(replace(episodes, values=np.zeros((2, 3))), 0.9, 1.0)
    assert close(advantages, episodes.returns_to_go(0.9))


def test_only_a_compute_budget_is_bootstrapped() -> None:
    """A task's own end, its turn limit included, is worth nothing behind it."""
    values = np.array([[0.5, 0.7], [0.5, 0.7]])
    episodes = replace(read_episodes([group([0.0, 1.0], [0.0, 1.0], cut=(1,))]), values=values)
    advantages, targets = gae(episodes, 1.0, 1.0)
    assert close(advantages, [[0.5, 0.3], [0.2, 0.0]])
    assert close(targets[0], [1.0, 1.0])
    assert targets[1, 0] == pytest.approx(0.7)
    assert np.isnan(targets[1, 1])
    limit = Trajectory(TASK, 0, [Turn("", "", 1.0)], truncated=True, stop=StopReason.MAX_TURNS)
    assert not read_episodes([Group(TASK, [limit])]).is_cut.any()


@pytest.mark.parametrize("estimator", [name for name in ALL if name != "ppo"])
def test_a_cut_episode_keeps_its_reward(estimator: Any) -> None:
    whole, cut = group([1.0, 0.0], [0.0, 0.5]), group([1.0, 0.0], [0.0, 0.5], cut=(0,))
    assert close(worth([whole], estimator), worth([cut], estimator))


@pytest.mark.parametrize("estimator", ALL)
def test_failures_of_ours_neither_learn_nor_count(estimator: Any) -> None:
    """The group is as if the failed episode had never been."""
    failed = group([1.0, 0.0], [100.0], [0.0], masked=(1,))
    got = worth([failed], estimator)
    assert close(got[[0, 2]], worth([group([1.0, 0.0], [0.0])], estimator))
    assert close(got[1], [0.0, 0.0])


@pytest.mark.parametrize("estimator", [n for n in ALL if n not in ("ppo", "reinforce_pp")])
@pytest.mark.parametrize("reward", [0.1, 1 / 3, 1e-8, 123456.7])
def test_equal_returns_are_exactly_nothing(estimator: Any, reward: float) -> None:
    """The mean of seven tenths is no tenth; the difference must not become credit."""
    got = credited(read_episodes([group(*[[reward]] * 7)]), estimator)
    assert not got.worth.any()
    assert not got.teaches.any()


@pytest.mark.parametrize("estimator", ALL)
def test_one_episode_alone_and_none_at_all_are_no_error(estimator: Any) -> None:
    assert np.isfinite(worth([group([1.0, 2.0])], estimator)).all()
    assert np.isfinite(worth([group([1.0], [0.0], masked=(0, 1))], estimator)).all()
    assert worth([group([], [])], estimator).shape == (2, 0)


def test_groups_that_teach_nothing_are_named() -> None:
    groups = [group([1.0], [1.0]), group([1.0], [0.0]), group([1.0], [0.0], masked=(1,))]
    assert credited(read_episodes(groups), "grpo").teaches.tolist() == [0, 0, 1, 1, 0, 0]


def test_a_critic_learns_of_groups_that_the_policy_does_not() -> None:
    """All are worth the same, and more than it expected."""
    got = credited(read_episodes([group([1.0], [1.0]), group([1.0], masked=(0,))]), "ppo")
    assert not got.worth.any()
    assert got.teaches.tolist() == [True, True, False]
    assert got.value_targets[:2, 0].tolist() == [1.0, 1.0]


def test_without_a_future_a_turn_is_worth_its_own_reward() -> None:
    got = worth([group([1.0, 5.0], [0.0, 5.0])], "reward_to_go", gamma=0.0)
    assert close(got, [[1.0, 0.0], [-1.0, 0.0]])
    values = np.array([[0.25, 0.5]])
    advantages, targets = gae(replace(read_episodes([group([1.0, 5.0])]), values=values), 0.0, 0.9)
    assert close(advantages, [[0.75, 4.5]])
    assert close(targets, [[1.0, 5.0]])


@pytest.mark.parametrize("estimator", ALL)
def test_the_order_of_groups_and_episodes_changes_nothing(estimator: Any) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 5, (4, 3))
    rewards = [[rng.normal(size=n).tolist() for n in row] for row in lengths]
    whole = worth([group(*g, seen=["aabb"] * 3) for g in rewards], estimator)
    turned = worth([group(*g[::-1], seen=["aabb"] * 3) for g in rewards[::-1]], estimator)
    assert np.allclose(whole, turned[::-1], rtol=1e-12, atol=1e-12)


def test_rloo_is_unbiased_by_enumeration() -> None:
    """A softmax over three arms, groups of three: the mean over all 27 groups is the gradient."""
    logits, rewards = np.array([0.3, -0.5, 1.0]), np.array([1.0, 0.2, -0.7])
    probability = np.exp(logits) / np.exp(logits).sum()
    score = np.eye(3) - probability  # [arm, logit]
    true = (probability * rewards) @ score
    for estimator, share in (("rloo", 1.0), ("reinforce", 1.0), ("dr_grpo", 2 / 3)):
        mean = np.zeros(3)
        for arms in itertools.product(range(3), repeat=3):
            chance = np.prod(probability[list(arms)])
            credit = worth([group(*[[rewards[a]] for a in arms])], estimator)[:, 0]
            mean += chance * (credit @ score[list(arms)]) / 3
        assert np.allclose(mean, share * true, rtol=1e-12), estimator


def test_the_bias_of_rewards_to_go_where_the_policy_decides_when_to_stop() -> None:
    """Turn 0: stop (reward .3) or go on (chance q); turn 1: reward 1 (chance p) or 0.

    By enumeration over all groups of two: the gradient of turn 0 is the true one; that of turn 1 is
    the true one times q, the chance that the other episode got there too.
    """
    q, p = 0.35, 0.6
    outcomes = [
        (1 - q, [0.3], -q, 0.0),
        (q * p, [0.0, 1.0], 1 - q, 1 - p),
        (q * (1 - p), [0.0, 0.0], 1 - q, -p),
    ]  # chance, rewards, d log pi / d logit of turn 0, of turn 1
    true = [q * (1 - q) * (p - 0.3), q * p * (1 - p)]
    mean = np.zeros(2)
    for first, second in itertools.product(outcomes, outcomes):
        credit = worth([group(first[1], second[1])], "reward_to_go")
        for row, outcome in enumerate((first, second)):
            later = credit[row, 1] if len(outcome[1]) > 1 else 0.0
            gradient = np.array([credit[row, 0] * outcome[2], later * outcome[3]])
            mean += first[0] * second[0] * gradient / 2
    assert mean == pytest.approx([true[0], q * true[1]])


def test_options_that_the_estimator_has_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"credit.gamma = 0.9 has no effect with .*'grpo'"):
        CreditOptions(gamma=0.9).check()
    CreditOptions(estimator="gigpo", gamma=0.9, turn_weight=0.5).check()
    CreditOptions(estimator="ppo", gae_lambda=0.9).check()
