"""Environments at their worst: whatever one of them does, the others play on."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import turnhalle as th
from turnhalle.agents.chat import ChatOptions, load_chat
from turnhalle.agents.core import Trajectory
from turnhalle.agents.engines.base import Capabilities, Completion, Request, Sampling
from turnhalle.agents.limits import BranchOptions, LimitOptions
from turnhalle.agents.llm import LLMPolicy
from turnhalle.agents.policy import Decision
from turnhalle.agents.rollout import Job, rollout, rollout_groups
from turnhalle.agents.scripted import ScriptedPolicy
from turnhalle.agents.store import RunStore
from turnhalle.envs.core import Message, StopReason
from turnhalle.envs.errors import ConfigError, EpisodeOverError
from turnhalle.envs.registry import EnvFactory


class Calm(th.TextEnv):
    """Three turns of small talk; every fourth task is odd in its second."""

    max_turns = 3

    @classmethod
    def class_id(cls) -> str:
        return "test:Calm"

    def draw(self, rng: Any, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"task {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        if self.is_odd and self.turn == 2:
            return self.odd()
        return th.Reply("ok", reward=0.1)

    @property
    def is_odd(self) -> bool:
        return self.task.index % 4 == 1

    def odd(self) -> Any:
        return th.Reply("ok")


def world(is_blocking: bool = False, **hooks: Any) -> EnvFactory:
    metadata = {**Calm.metadata, "blocking": is_blocking}
    return EnvFactory(type("Odd", (Calm,), {"__doc__": "Odd.", "metadata": metadata, **hooks}))


def scripted() -> ScriptedPolicy:
    return ScriptedPolicy("says one", lambda env, rng: "1")


class Parrot:
    """An engine that says the same ten tokens to everything."""

    max_context, adapter_version = 4096, 0
    capabilities = Capabilities(True, False, False)

    def __init__(self) -> None:
        self.queue: list[Request] = []
        self.sessions: set[int] = set()

    def submit(self, request: Request) -> None:
        self.queue.append(request)
        self.sessions.add(request.session)

    def step(self) -> list[Completion]:
        asked, self.queue = self.queue, []
        tokens = list(range(5, 15))
        return [Completion(r.session, tokens, [-1.0] * 10, "length", 0) for r in asked]

    def close(self, session: int) -> None:
        self.sessions.discard(session)


def speaking() -> LLMPolicy:
    engine: Any = Parrot()
    return LLMPolicy("parrot", engine, load_chat("tiny", ChatOptions()), Sampling())


def play(factory: EnvFactory, policy: Any = None, **limits: Any) -> list[Trajectory]:
    end = time.monotonic() + 30
    jobs = [Job("train", index) for index in range(8)]
    return rollout(
        factory,
        policy or scripted(),
        jobs,
        lambda done, total: time.monotonic() > end,
        LimitOptions(**limits),
    )


def assert_only_the_odd_fail(played: list[Trajectory], stop: StopReason, why: str = "") -> None:
    for index, trajectory in enumerate(played):
        if index % 4 == 1:
            assert trajectory.stop is stop
            assert why in str(trajectory.error)
        else:
            assert (trajectory.stop, trajectory.error) == (StopReason.MAX_TURNS, None)
            assert len(trajectory.turns) == 3


def throw(error: BaseException) -> Callable[[Any], Any]:
    def odd(self: Any) -> Any:
        raise error

    return odd


def test_a_program_that_ends_itself_ends_only_its_episode() -> None:
    for error in (SystemExit(3), asyncio.CancelledError(), GeneratorExit(), BaseException("odd")):
        for is_blocking in (False, True):
            played = play(world(is_blocking, odd=throw(error)))
            name = type(error).__name__
            assert_only_the_odd_fail(played, StopReason.ENV_ERROR, f"bug in test:Calm: {name}")


@pytest.mark.parametrize(
    "reply",
    [
        th.Reply(5),  # type: ignore[arg-type]
        th.Reply("a", reward=None),  # type: ignore[arg-type]
        th.Reply("a", reward=float("inf")),
        th.Reply("a", parts={"x": "y"}),  # type: ignore[dict-item]
        th.Reply("a", messages=("hi",)),  # type: ignore[arg-type]
        "no reply",
    ],
)
def test_an_answer_that_is_none_fails_its_episode(reply: Any) -> None:
    for is_blocking in (False, True):
        played = play(world(is_blocking, odd=lambda self: reply))
        assert_only_the_odd_fail(played, StopReason.ENV_ERROR)


def test_text_that_cannot_be_encoded_is_mended_before_anybody_sees_it(tmp_path: Path) -> None:
    def odd(self: Any) -> th.Reply:
        return th.Reply("lone \ud800, pair \ud83d\ude00, \0")

    policy = speaking()
    played = play(world(odd=odd), policy)
    assert played[1].turns[2].observation == "lone \ufffd, pair 😀, \0"
    assert {t.stop for t in played} == {StopReason.MAX_TURNS}
    store = RunStore(tmp_path / "run", create=True)
    store.write_step(1, {}, [("train", trajectory, None) for trajectory in played])
    (episode, *_) = store.episode_ids("train")
    assert store.episode(episode + 1).turns[2].observation == played[1].turns[2].observation
    store.close()
    json.dumps(played[1].to_json(), ensure_ascii=False).encode()


def test_an_action_or_error_that_cannot_be_encoded_is_mended(tmp_path: Path) -> None:
    seen = []

    def odd(self: Any) -> th.Reply:
        seen.append(self._journal[-1])
        raise RuntimeError("\udfff")

    played = play(world(odd=odd), ScriptedPolicy("odd", lambda env, rng: "\ud83d\ude00\ud800"))
    assert_only_the_odd_fail(played, StopReason.ENV_ERROR, "\ufffd")
    assert set(seen) == {"😀\ufffd"}
    json.dumps([t.to_json() for t in played], ensure_ascii=False).encode()


def test_floods_lose_their_middle_however_they_come() -> None:
    one = th.Reply("x" * 10**8)
    many = th.Reply("", messages=(Message(role="user", content="y" * 1000),) * 100_000)
    for flood in (one, many):
        policy = speaking()
        played = play(world(odd=lambda self, flood=flood: flood), policy, max_observation_chars=500)
        assert {t.stop for t in played} == {StopReason.MAX_TURNS}
        assert len(policy.chat.template.decode(played[1].turns[2].segments[0].token_ids)) < 1000
        assert not policy.engine.sessions  # type: ignore[attr-defined]


def test_messages_that_are_too_many_are_left_out_in_the_middle() -> None:
    replies = tuple(Message(role="user", content=f"say {i}") for i in range(50))
    policy = speaking()
    played = play(
        world(odd=lambda self: th.Reply("", messages=replies)), policy, max_observation_chars=400
    )
    text = policy.chat.template.decode(played[1].turns[2].segments[0].token_ids)
    for kept in ("say 0", "say 1\n[... 46 messages left out ...]", "say 48", "say 49"):
        assert kept in text
    assert "say 2" not in text


def test_what_fails_in_close_or_cannot_be_built_harms_nobody() -> None:
    for error in (SystemExit(1), RuntimeError("stuck")):
        for is_blocking in (False, True):
            played = play(world(is_blocking, close=throw(error)))
            assert {t.stop for t in played} == {StopReason.MAX_TURNS}
    factory = world()
    opened = iter(range(8))

    def open_(self: EnvFactory) -> Any:
        if next(opened) % 4 == 1:
            raise OSError("no more files")
        return self()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EnvFactory, "open", open_)
        played = play(factory)
    assert_only_the_odd_fail(played, StopReason.ENV_ERROR, "OSError: no more files")
    assert [t.task.index for t in played] == list(range(8))

    def refuse(self: Any) -> None:
        raise ConfigError("no such option")

    with pytest.raises(ConfigError, match="no such option"):
        play(world(__init__=refuse))


def test_a_coroutine_that_never_awaits_is_left_behind_with_its_loop() -> None:
    release = threading.Event()

    async def step_async(self: Any, action: str) -> Any:
        if self.is_odd and self.turn == 1:
            while not release.wait(0.01):
                pass
        await asyncio.sleep(0.001)
        return self.step(action)

    before = threading.active_count()
    played = play(world(step_async=step_async), turn_timeout_s=0.3)
    failed = [t for t in played if t.error]
    busy = [t.task.index for t in failed if "never awaits" in str(t.error)]
    assert len(busy) == 1
    assert {1, 5} <= {t.task.index for t in failed}
    assert all("beside another" in str(t.error) for t in failed if t.task.index not in busy)
    assert {t.stop for t in failed} == {StopReason.TIMEOUT}
    # Those that come after it are awaited in a new loop.
    played = play(world(step_async=step_async), _Few(), turn_timeout_s=0.3)
    assert_only_the_odd_fail(played, StopReason.TIMEOUT, "never awaits")
    # Beyond the cap nobody waits for ever.
    played = play(world(step_async=step_async), _Few(), turn_timeout_s=0.3, max_abandoned=0)
    assert "every thread for environments hangs" in str(played[7].error)
    release.set()
    ends = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert threading.active_count() <= before


class _Few(ScriptedPolicy):
    """One episode at a time."""

    def __init__(self) -> None:
        super().__init__("few", lambda env, rng: "1", 1)


def test_a_coroutine_that_fails_or_answers_nonsense_fails_alone() -> None:
    def world_of(step: Callable[[Any], Any]) -> EnvFactory:
        async def step_async(self: Any, action: str) -> Any:
            await asyncio.sleep(0)
            return step(self) if self.is_odd and self.turn == 1 else self.step(action)

        return world(step_async=step_async)

    for error in (SystemExit(3), asyncio.CancelledError(), KeyError("x")):
        played = play(world_of(throw(error)))
        assert_only_the_odd_fail(played, StopReason.ENV_ERROR, type(error).__name__)
    for answer in (None, ("a", 0.0), ("a", 0.0, False, False, {}), ("a", 0.0, True, False, {})):
        played = play(world_of(lambda self, answer=answer: answer))
        assert_only_the_odd_fail(played, StopReason.ENV_ERROR, "a step must return")
    info = {"messages": [Message(role="user", content="a")], "success": True, "stop": "finished"}
    played = play(world_of(lambda self: ("a", np.float32(0.5), np.bool_(True), False, info)))
    assert (played[1].turns[1].reward, played[1].success, played[1].error) == (0.5, True, None)


def test_a_coroutine_that_takes_its_cancellation_badly_holds_up_nobody() -> None:
    async def step_async(self: Any, action: str) -> Any:
        while self.is_odd and self.turn == 1:
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                if time.monotonic() > ends:
                    raise
        return self.step(action)

    ends = time.monotonic() + 1.5
    played = play(world(step_async=step_async), turn_timeout_s=0.2)
    assert_only_the_odd_fail(played, StopReason.TIMEOUT, "did not answer")


def test_an_environment_that_answers_too_late_is_closed_then() -> None:
    release, closed = threading.Event(), []

    def odd(self: Any) -> th.Reply:
        release.wait()
        return th.Reply("at last")

    def close(self: Any) -> None:
        closed.append(self.task.index)

    played = play(world(True, odd=odd, close=close), turn_timeout_s=0.2)
    assert_only_the_odd_fail(played, StopReason.TIMEOUT)
    release.set()
    ends = time.monotonic() + 10
    while len(closed) < 8 and time.monotonic() < ends:
        time.sleep(0.01)
    assert sorted(closed) == list(range(8))


def test_forks_that_come_too_late_are_closed_too() -> None:
    release, opened, closed = threading.Event(), Counter[int](), []

    def start(self: Any) -> str:
        opened[self.instance["n"]] += 1
        if opened[self.instance["n"]] > 1:
            release.wait()
        return "?"

    factory = world(True, start=start, close=lambda self: closed.append(self))
    branch = BranchOptions(at=(1,), factor=3)
    (group,) = rollout_groups(
        factory, scripted(), [Job("train", 0)], 1, limits=LimitOptions(turn_timeout_s=0.1),
        branch=branch,
    )  # fmt: skip
    assert [t.stop for t in group.trajectories] == [StopReason.TIMEOUT]
    release.set()
    ends = time.monotonic() + 10
    while len(closed) < 3 and time.monotonic() < ends:
        time.sleep(0.01)
    assert len(set(map(id, closed))) == len(closed) == 3


def test_a_policy_that_fails_in_the_middle_leaves_nothing_open() -> None:
    closed = []

    class Failing(ScriptedPolicy):
        """Fails in its third poll, and again in every end."""

        polls = 0

        def poll(self) -> list[Decision]:
            self.polls += 1
            if self.polls == 3:
                raise ZeroDivisionError("of the policy's own")
            return super().poll()

        def end(self, episode: int) -> None:
            super().end(episode)
            raise LookupError(episode)

    policy = Failing("failing", lambda env, rng: "1")
    with pytest.raises(ZeroDivisionError):
        play(world(close=lambda self: closed.append(self.task.index)), policy)
    assert sorted(closed) == list(range(8))
    assert not policy._episodes


def test_a_fork_whose_environment_ends_itself_is_a_masked_sibling() -> None:
    begun = Counter[int]()

    def start(self: Any) -> str:
        begun[self.instance["n"]] += 1
        if begun[self.instance["n"]] == 2:
            sys.exit("no second game")
        return "?"

    branch = BranchOptions(at=(1,), factor=3)
    (group,) = rollout_groups(world(start=start), scripted(), [Job("train", 0)], 1, branch=branch)
    stops = [t.stop for t in group.trajectories]
    assert stops == [StopReason.MAX_TURNS, StopReason.ENV_ERROR, StopReason.MAX_TURNS]
    assert "SystemExit: no second game" in str(group.trajectories[1].error)


def test_an_environment_whose_coroutine_was_given_up_is_closed_once_it_has_ended() -> None:
    closed = []

    async def step_async(self: Any, action: str) -> Any:
        await asyncio.sleep(20 if self.is_odd else 0)
        return self.step(action)

    def close(self: Any) -> None:
        closed.append(self.task.index)

    played = play(world(step_async=step_async, close=close), turn_timeout_s=0.2)
    ends = time.monotonic() + 10
    while len(closed) < len(played) and time.monotonic() < ends:
        time.sleep(0.01)
    assert sorted(closed) == sorted(t.task.index for t in played)


def test_an_environment_that_says_it_is_over_fails_alone() -> None:
    """It is no mistake of the user's: of what is inside of it, or of a state put back badly."""

    def odd(self: Any) -> Any:
        raise EpisodeOverError("this episode is over")

    assert_only_the_odd_fail(play(world(odd=odd)), StopReason.ENV_ERROR, "this episode is over")
