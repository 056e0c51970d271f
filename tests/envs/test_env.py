"""The contract of `TextEnv`, on a small world and on everything that is registered."""

from __future__ import annotations

import json
import pickle
import random
import warnings
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st

import turnhalle as th
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import ConfigError, EnvError, EpisodeOverError, TaskError
from turnhalle.envs.tasks import Task

BUILTIN = sorted(th.registered())


class Echo(th.TextEnv):
    """Say the word."""

    max_turns = 3

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"word": str(rng.randrange(10**6 * difficulty))}

    def start(self) -> str:
        return f"Say {self.instance['word']}."

    def respond(self, action: str) -> th.Reply:
        if action == "crash":
            raise RuntimeError("a bug")
        if action == "nan":
            return th.Reply("", reward=float("nan"))
        if action == self.instance["word"]:
            return th.End("Yes.", success=True, parts={"said": 0.75, "fast": 0.25})
        return th.Reply(f"No. {self.rng.random()}")

    def oracle(self) -> str:
        return str(self.instance["word"])


class Silent(Echo):
    """Ends with nothing said."""

    def respond(self, action: str) -> Any:
        return None


@pytest.mark.parametrize("id", BUILTIN)
def test_every_registered_environment_passes_check_env(id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(th.make(id, render_mode="ansi"))


@pytest.mark.parametrize("id", BUILTIN)
def test_environments_work_through_gymnasium(id: str) -> None:
    env = RecordEpisodeStatistics(TimeLimit(gymnasium.make(id), max_episode_steps=3))
    env.reset(seed=1)
    for _ in range(3):
        _, _, terminated, truncated, info = env.step("?")
        if terminated or truncated:
            break
    assert "episode" in info
    assert pickle.loads(pickle.dumps(env.spec)).id == id


@pytest.mark.parametrize("id", BUILTIN)
def test_vector_environments_play_the_same_episodes(id: str) -> None:
    with warnings.catch_warnings():
        # Gymnasium warns that our info values are objects, which is what they are.
        warnings.simplefilter("ignore")
        sync = gymnasium.make_vec(id, num_envs=2, vectorization_mode="sync")
        other = gymnasium.make_vec(
            id,
            num_envs=2,
            vectorization_mode="async",
            vector_kwargs={"shared_memory": False},
        )
        assert sync.reset(seed=3)[0] == other.reset(seed=3)[0]
        assert sync.step(("a", "b"))[0] == other.step(("a", "b"))[0]
        sync.close()
        other.close()


def test_reset_gives_observation_messages_and_rules() -> None:
    observation, info = Echo().reset(seed=5)
    assert [m.role for m in info["messages"]] == ["system", "user"]
    assert info["messages"][0].content == "Say the word."
    assert info["messages"][1].content == observation
    assert "tools" not in info


def test_a_seed_is_the_number_of_a_task() -> None:
    by_seed, _ = Echo().reset(seed=7)
    by_task, _ = Echo().reset(options={"task": 7})
    other, _ = Echo().reset(seed=8)
    assert by_seed == by_task != other


def test_unseeded_resets_go_on_from_the_seed() -> None:
    a, b = Echo(), Echo()
    first = [a.reset(seed=1)[0], a.reset()[0], a.reset()[0]]
    assert first == [b.reset(seed=1)[0], b.reset()[0], b.reset()[0]]
    assert len(set(first)) == 3


def test_global_random_generators_are_left_alone() -> None:
    import numpy as np

    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    env = Echo()
    env.reset(seed=2)
    env.step("wrong")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_parts_make_the_reward_and_success_is_told_at_the_end() -> None:
    env = Echo()
    env.reset(seed=1)
    _, _, _, _, info = env.step("wrong")
    assert "success" not in info
    observation, reward, terminated, truncated, info = env.step(env.oracle())
    assert (observation, reward, terminated, truncated) == ("Yes.", 1.0, True, False)
    assert info["parts"] == {"said": 0.75, "fast": 0.25}
    assert info["success"] is True
    assert info["stop"] == StopReason.FINISHED


def test_the_turn_limit_truncates_without_success() -> None:
    env = Echo()
    env.reset(seed=1)
    steps = [env.step("wrong") for _ in range(3)]
    assert [step[3] for step in steps] == [False, False, True]
    assert steps[-1][4]["success"] is False
    assert steps[-1][4]["stop"] == StopReason.MAX_TURNS


def test_stepping_after_the_end_or_before_reset_raises() -> None:
    env = Echo()
    with pytest.raises(EpisodeOverError, match="call reset"):
        env.step("x")
    env.reset(seed=1)
    env.step(env.oracle())
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step("x")


def test_noise_is_shared_within_a_task_and_another_draw_on_request() -> None:
    def first_reply(**options: int) -> str:
        env = Echo()
        env.reset(options={"task": 3, **options})
        return env.step("wrong")[0]

    assert first_reply() == first_reply(noise=0) != first_reply(noise=1)


@pytest.mark.parametrize("kind", ["replay", "state"])
def test_a_fork_goes_on_like_its_origin_and_apart(kind: str) -> None:
    class WithState(Echo):
        def state(self) -> dict[str, Any]:
            return {"turn": self.turn}

        def restore(self, state: dict[str, Any]) -> None:
            assert state["turn"] == self.turn

    env = Echo() if kind == "replay" else WithState()
    assert env.metadata["snapshot"] == kind
    env.reset(seed=1)
    env.step("wrong")
    twin = env.fork()
    assert twin.step("again") == env.step("again")
    twin.step("wrong")
    assert twin.is_over
    assert not env.is_over


def test_snapshots_are_json_and_belong_to_one_environment() -> None:
    env = Echo()
    env.reset(seed=1)
    env.step("wrong")
    state = json.loads(json.dumps(env.get_state()))
    twin = Echo()
    twin.set_state(state)
    assert twin.get_state() == state
    with pytest.raises(TaskError, match="the snapshot is of"):
        th.make("math").set_state(state)


def test_bad_options_say_what_is_allowed() -> None:
    env = Echo()
    with pytest.raises(LookupError, match="did you mean 'split'"):
        env.reset(options={"spilt": "eval"})
    with pytest.raises(ValueError, match="eval, test, train"):
        env.reset(options={"split": "valid"})
    with pytest.raises(ConfigError, match="difficulty must be an integer of at least 1, got 0"):
        env.reset(options={"difficulty": 0})
    with pytest.raises(ConfigError, match="task must be an integer of at least 0, got -1"):
        env.reset(options={"task": -1})
    with pytest.raises(ConfigError, match="max_turns"):
        Echo(max_turns=0)
    with pytest.raises(ValueError, match="Known: ansi"):
        Echo(render_mode="human")
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="an action is a str, got int"):
        env.step(4)  # type: ignore[arg-type]


@pytest.mark.parametrize(("action", "said"), [("crash", "a bug"), ("nan", "the reward is nan")])
def test_a_bug_in_an_environment_names_the_task_to_replay(action: str, said: str) -> None:
    env = Echo()
    env.reset(seed=4)
    env.step("wrong")
    with pytest.raises(EnvError, match=said) as caught:
        env.step(action)
    written = str(caught.value).partition("Task.from_json(")[2].partition(")),")[0]
    again = Echo()
    again.begin(Task.from_json(eval(written)))
    assert again.task == env.task


def test_a_reply_that_is_none_is_a_bug() -> None:
    env = Silent()
    env.reset(seed=1)
    with pytest.raises(EnvError, match="must return Reply or End, got NoneType"):
        env.step("x")


def test_render_is_the_conversation() -> None:
    env = Echo(render_mode="ansi")
    first, _ = env.reset(seed=1)
    second = env.step("wrong")[0]
    assert env.render() == f"{first}\n> wrong\n{second}"
    assert Echo().render() is None


@pytest.mark.parametrize("id", BUILTIN)
@settings(max_examples=50, deadline=None)
@given(actions=st.lists(st.text(), min_size=1, max_size=8), task=st.integers(0, 1000))
def test_no_action_raises_or_pays_more_than_declared(
    id: str, actions: list[str], task: int
) -> None:
    env = th.make(id)
    env.reset(options={"task": task})
    earned = 0.0
    for action in actions:
        if env.is_over:
            break
        earned += env.step(action)[1]
    low, high = env.reward_range
    assert low <= earned <= high + 1e-9
