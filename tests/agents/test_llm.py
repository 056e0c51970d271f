"""The language-model policy: every token of an episode is accounted for."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import turnhalle as th
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.core import Trajectory
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.local import TransformersEngine
from turnhalle.agents.limits import BranchOptions
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.players import open_policy
from turnhalle.agents.policy import Opening
from turnhalle.agents.process import tune_process
from turnhalle.agents.rollout import Job, rollout, rollout_groups
from turnhalle.agents.tree import branches, grow_tree
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import UnknownNameError
from turnhalle.envs.registry import EnvFactory, resolve


def tiny(max_context: int | None = None, **sampling: Any) -> LLMPolicy:
    lm = load_model(ModelOptions(precision="fp32", device="cpu"))
    chat = load_chat("tiny", ChatOptions())
    return LLMPolicy("tiny", TransformersEngine(lm, max_context), chat, Sampling(**sampling))


def tokens(played: Trajectory) -> list[int]:
    return [i for turn in played.turns for s in turn.segments for i in s.token_ids]


@pytest.mark.parametrize("env", ["tools", "math", "pacman"])
def test_the_tokens_of_an_episode_are_its_conversation(env: str) -> None:
    policy = tiny()
    for played in rollout(resolve(env), policy, [Job("eval", i) for i in range(8)]):
        decoded = policy.chat.tokenizer.decode(tokens(played))
        expected = ""
        for number, turn in enumerate(played.turns):
            observation, action = turn.segments
            assert not observation.is_sampled
            assert action.is_sampled
            role = "tool" if number and env == "tools" else "user"
            for line in turn.observation.split("\n"):
                expected += f"<|{role}|>{line}<|end|>"
            text = policy.chat.tokenizer.decode(action.token_ids)
            assert policy.chat.read(action.token_ids, resolve(env)().tools()) == turn.action
            expected += f"<|assistant|>{text}"
        assert decoded == expected


def test_equal_jobs_give_equal_episodes_and_other_samples_others() -> None:
    jobs = [Job("train", 3, sample) for sample in range(6)]
    together = rollout(resolve("tools"), tiny(), jobs)
    alone = [rollout(resolve("tools"), tiny(), [job])[0] for job in jobs]
    assert [tokens(t) for t in together] == [tokens(t) for t in alone]
    assert len({tuple(tokens(t)) for t in together}) > 1


def test_an_episode_that_outgrows_the_context_is_cut_there() -> None:
    played = rollout(resolve("pacman"), tiny(max_context=48), [Job("eval", i) for i in range(8)])
    cut = [t for t in played if t.stop == StopReason.CONTEXT]
    assert cut
    for trajectory in cut:
        assert trajectory.truncated
        assert not trajectory.terminated
        assert not trajectory.is_masked
        assert trajectory.num_tokens <= 48


def test_an_observation_that_outgrows_the_context_may_lose_its_middle_instead() -> None:
    class Loud(th.TextEnv):
        """Answers at length."""

        max_turns = 3

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            return {"n": rng.randrange(10**6)}

        def start(self) -> str:
            return f"{self.instance['n']}"

        def respond(self, action: str) -> th.Reply:
            return th.Reply("1 2 3 " * 500 if self.turn == 1 else "ok")

    policy = tiny(max_context=300, max_new_tokens=16)
    policy.overflow = "truncate"
    (cut,) = rollout(EnvFactory(Loud), policy, [Job("train", 0)])
    assert (cut.stop, len(cut.turns)) == (StopReason.MAX_TURNS, 3)
    seen = policy.chat.tokenizer.decode(cut.turns[1].segments[0].token_ids)
    assert "left out" in seen.replace(" ", "") or "left out" in seen
    assert cut.num_tokens <= 300
    policy.overflow = "end"
    (ended,) = rollout(EnvFactory(Loud), policy, [Job("train", 0)])
    assert (ended.stop, len(ended.turns)) == (StopReason.CONTEXT, 1)


def test_greedy_is_the_same_for_every_sample() -> None:
    jobs = [Job("train", 3, sample) for sample in range(3)]
    played = rollout(resolve("tools"), tiny(temperature=0.0), jobs)
    assert len({tuple(tokens(t)) for t in played}) == 1


def test_policies_are_opened_by_name(make_model: Any) -> None:
    factory = resolve("math")
    for name in ("tiny", str(make_model()), "oracle"):
        policy = open_policy(name, factory, Sampling(max_new_tokens=8))
        assert len(rollout(factory, policy, [Job("eval", 0)])) == 1
    with pytest.raises(UnknownNameError, match="unknown policy 'tinyy'; did you mean 'tiny'"):
        open_policy("tinyy", factory, Sampling())


def test_an_episode_that_ends_before_its_decision_was_heard_is_forgotten() -> None:
    policy, env = tiny(max_context=8), resolve("pacman")()
    _, info = env.reset(seed=0)
    for episode in range(2):  # the opening does not fit: that is decided at once
        policy.begin(Opening(episode, info["messages"], [], 0, env))
    policy.end(0)
    assert [decision.episode for decision in policy.poll()] == [1]


@pytest.mark.parametrize("options", [{"window": 1}, {"summarise_above": 20}, {}])
def test_forks_under_a_rewritten_history_were_sampled_from_what_their_branches_say(
    options: dict[str, int],
) -> None:
    """Every token's log-prob is that of a plain forward pass over the branch it stands in."""
    history = {"window": "window", "summarise_above": "summarise"}.get(next(iter(options), ""))
    chat = load_chat("tiny", ChatOptions(history=history or "as-template", **options))  # type: ignore[arg-type]
    lm = load_model(ModelOptions(precision="fp32", device="cpu"))
    tune_process(lm.num_parameters)
    policy = LLMPolicy("tiny", TransformersEngine(lm), chat, Sampling(max_new_tokens=24))
    jobs = [Job("train", index) for index in range(3)]
    branch = BranchOptions(at=(1,), factor=2)
    groups = rollout_groups(resolve("tools"), policy, jobs, 2, branch=branch)
    assert sum(t.fork_parent is not None for g in groups for t in g.trajectories) >= 4
    num_branches = 0
    for group in groups:
        for trajectory in group.trajectories:
            found = branches(trajectory)
            num_branches += len(found)
            assert sum(len(b.position) for b in found) == trajectory.num_sampled
            for one in found:
                with torch.no_grad():
                    logits = lm.model(input_ids=torch.tensor(one.token_ids)[None]).logits[0]
                logprobs = torch.log_softmax(logits.float(), dim=-1)
                scored = logprobs[one.position - 1, one.token_ids[one.position]].numpy()
                assert scored == pytest.approx(one.logprob, abs=1e-4)
        tree = grow_tree(group.trajectories)
        assert tree.num_rows == sum(t.num_sampled for t in group.trajectories)
    assert num_branches > sum(len(g.trajectories) for g in groups) or not options
