"""The driver: what hangs, raises or floods fails alone; nobody waits; the order changes nothing."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.agents.core import Trajectory
from turnhalle.agents.limits import BranchOptions, LimitOptions
from turnhalle.agents.policy import Decision, Opening
from turnhalle.agents.rollout import Job, rollout, rollout_groups
from turnhalle.agents.scripted import ScriptedPolicy
from turnhalle.envs.core import Message, StopReason
from turnhalle.envs.errors import ConfigError, EnvError, InterruptedRunError
from turnhalle.envs.options import EnvOptions
from turnhalle.envs.registry import EnvFactory

WORLDS = Path(__file__).parents[1] / "envs" / "odd_worlds.py"
POLICY = "says a number"


def policy(max_concurrent: int = 256) -> ScriptedPolicy:
    return ScriptedPolicy(POLICY, lambda env, rng: str(rng.randrange(1000)), max_concurrent)


class Plain(th.TextEnv):
    """Three turns of small talk."""

    max_turns = 3

    @classmethod
    def class_id(cls) -> str:
        return "test:Talk"  # subclasses draw the same tasks

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"task {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        return th.Reply(f"{action} {self.rng.random()}", reward=int(action) / 1000)


class Blocking(Plain):
    """The same, and takes its time."""

    metadata = {**Plain.metadata, "blocking": True}  # noqa: RUF012
    release = threading.Event()

    def respond(self, action: str) -> th.Reply:
        time.sleep(random.Random(action).random() * 0.02)
        kind = self.task.index % 10 if self.turn == 2 else None
        if kind == 1:
            Blocking.release.wait()
        if kind == 2:
            raise RuntimeError("out of order")
        if kind == 3:
            return th.Reply("flood " * 10**6)
        return super().respond(action)


@pytest.fixture(autouse=True)
def _release() -> Any:
    Blocking.release.clear()
    yield
    Blocking.release.set()  # the threads that hang may end


def jobs(count: int) -> list[Job]:
    return [Job("train", index) for index in range(count)]


def overdue() -> Callable[[int, int], bool]:
    """A watch that stops what should have ended long ago."""
    end = time.monotonic() + 20
    return lambda done, total: time.monotonic() > end


def said(played: list[Trajectory]) -> list[list[tuple[str, str, float]]]:
    return [
        [(t.observation, t.action, t.reward) for t in trajectory.turns] for trajectory in played
    ]


def test_a_tenth_that_hangs_raises_or_floods_harms_nobody_else() -> None:
    limits = LimitOptions(
        turn_timeout_s=1.0, threads=32, max_abandoned=30, max_observation_chars=1000
    )
    played = rollout(EnvFactory(Blocking), policy(), jobs(256), limits=limits)
    calm = rollout(EnvFactory(Plain), policy(), jobs(256))
    assert len(played) == 256
    for index, (trajectory, expected) in enumerate(zip(played, calm, strict=True)):
        assert trajectory.task.index == index
        if index % 10 == 1:
            assert trajectory.stop is StopReason.TIMEOUT
            assert "did not answer within 1 s" in str(trajectory.error)
        elif index % 10 == 2:
            assert trajectory.stop is StopReason.ENV_ERROR
            assert "out of order" in str(trajectory.error)
        elif index % 10 == 3:
            assert trajectory.stop is StopReason.MAX_TURNS
            assert len(trajectory.turns[2].observation) < 1100
            assert "5999000 characters left out" in trajectory.turns[2].observation
        else:
            assert said([trajectory]) == said([expected])
        assert trajectory.is_masked == (index % 10 in (1, 2))


def test_those_with_a_process_of_their_own_may_hang_crash_or_flood(
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = EnvOptions(id=f"{WORLDS}:Odd", isolation="process", memory_gib=0.25)
    calm = rollout(EnvOptions(id=f"{WORLDS}:Talk").factory(), policy(), jobs(20))
    # No thread may be left behind: whoever hangs is killed, and its thread goes on.
    limits = LimitOptions(turn_timeout_s=5.0, threads=3, max_abandoned=0)
    with caplog.at_level("INFO", logger="turnhalle"):
        played = rollout(options.factory(), policy(), jobs(20), limits=limits)
    failures = {
        1: (StopReason.TIMEOUT, "did not answer within 5 s"),
        2: (StopReason.ENV_ERROR, "exit status 3"),
        3: (StopReason.ENV_ERROR, "MemoryError"),
        4: (StopReason.ENV_ERROR, "SIGSEGV"),
        5: (StopReason.ENV_ERROR, "out of order"),
        6: (StopReason.OUTSIDE_ERROR, "no verdict"),
        7: (StopReason.ENV_ERROR, "SystemExit: enough"),
    }
    for index, (trajectory, expected) in enumerate(zip(played, calm, strict=True)):
        if index % 16 in failures:
            stop, why = failures[index % 16]
            assert (trajectory.stop, trajectory.is_masked) == (stop, True)
            assert why in str(trajectory.error)
            assert any(f"Odd/{index}: {trajectory.error}" in line for line in caplog.messages)
            assert len(trajectory.turns) == 1
        else:
            assert [t.action for t in trajectory.turns] == [t.action for t in expected.turns]
            assert trajectory.stop is StopReason.MAX_TURNS


def test_forks_have_processes_of_their_own() -> None:
    branch = BranchOptions(at=(1, 2), factor=2)
    groups = [
        rollout_groups(options.factory(), policy(), jobs(2), 2, branch=branch)
        for options in (
            EnvOptions(id=f"{WORLDS}:Remembering", isolation="process"),
            EnvOptions(id=f"{WORLDS}:Remembering"),
        )
    ]
    assert groups[0] == groups[1]


def test_what_blocks_plays_as_what_does_not() -> None:
    class Slow(Plain):
        """Takes its time."""

        metadata = {**Plain.metadata, "blocking": True}  # noqa: RUF012

        def respond(self, action: str) -> th.Reply:
            time.sleep(random.Random(action).random() * 0.02)
            return super().respond(action)

    class Awaited(Plain):
        """Is awaited."""

        async def step_async(self, action: str) -> Any:
            await asyncio.sleep(random.Random(action).random() * 0.02)
            return self.step(action)

    calm = said(rollout(EnvFactory(Plain), policy(), jobs(40)))
    for other in (Slow, Awaited):
        for most in (3, 64):
            assert said(rollout(EnvFactory(other), policy(most), jobs(40))) == calm


def test_environments_do_not_wait_for_each_other() -> None:
    class Nap(Plain):
        """Every turn takes a tenth of a second."""

        metadata = {**Plain.metadata, "blocking": True}  # noqa: RUF012

        def respond(self, action: str) -> th.Reply:
            time.sleep(0.1)
            return super().respond(action)

    started = time.monotonic()
    rollout(EnvFactory(Nap), policy(), jobs(64))
    assert time.monotonic() - started < 64 * 3 * 0.1 / 4  # one after another: 19 s


def test_the_policy_goes_on_while_an_environment_hangs() -> None:
    class Patient(ScriptedPolicy):
        """Notes what it decided while somebody hung."""

        decided = 0

        def poll(self) -> list[Decision]:
            decisions = super().poll()
            self.decided += len(decisions)
            if self.decided >= 38:
                Blocking.release.set()
            return decisions

    one = Patient(POLICY, lambda env, rng: "1")
    tasks = [Job("train", 1), *(Job("train", 10 * i) for i in range(1, 13))]
    played = rollout(EnvFactory(Blocking), one, tasks)
    assert {t.stop for t in played} == {StopReason.MAX_TURNS}


def test_too_many_hung_threads_end_what_waits_instead_of_waiting_for_ever() -> None:
    limits = LimitOptions(turn_timeout_s=0.2, threads=2, max_abandoned=1)
    played = rollout(EnvFactory(Blocking), policy(), [Job("train", 1)] * 6, limits=limits)
    assert {t.stop for t in played} == {StopReason.TIMEOUT}
    errors = [str(t.error) for t in played]
    assert sum("did not answer" in e for e in errors) == 3
    assert sum("every thread for environments hangs" in e for e in errors) == 3


def test_what_waits_for_a_thread_in_vain_ends_beside_what_is_awaited() -> None:
    class Mixed(Plain):
        """Its steps are awaited, its fourth reset hangs."""

        metadata = {**Plain.metadata, "blocking": True}  # noqa: RUF012

        def start(self) -> str:
            if self.task.index == 3:
                Blocking.release.wait()
            return super().start()

        async def step_async(self, action: str) -> Any:
            return self.step(action)

    limits = LimitOptions(turn_timeout_s=0.2, threads=1, max_abandoned=0)
    played = rollout(EnvFactory(Mixed), policy(), jobs(6), overdue(), limits)
    assert [t.stop for t in played[:3]] == [StopReason.MAX_TURNS] * 3
    assert "did not answer" in str(played[3].error)
    assert all("every thread for environments hangs" in str(t.error) for t in played[4:])


def test_environments_that_hang_in_close_hold_nobody_up() -> None:
    class Clingy(Blocking):
        """Never closes."""

        def close(self) -> None:
            Blocking.release.wait()

    limits = LimitOptions(turn_timeout_s=5, threads=2, max_abandoned=0)
    tasks = [Job("train", 10 * i) for i in range(6)]
    played = rollout(EnvFactory(Clingy), policy(2), tasks, overdue(), limits)
    assert [t.stop for t in played] == [StopReason.MAX_TURNS] * 6


def test_an_environment_that_hangs_before_its_task_is_drawn_is_named() -> None:
    class Stuck(Blocking):
        """Never starts."""

        def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
            Blocking.release.wait()
            return {"n": 0}

    limits = LimitOptions(turn_timeout_s=0.2)
    (trajectory,) = rollout(EnvFactory(Stuck), policy(), [Job("train", 7)], limits=limits)
    assert trajectory.stop is StopReason.TIMEOUT
    assert (trajectory.task.split, trajectory.task.index) == ("train", 7)


def test_an_awaited_environment_is_cancelled_at_its_time_out() -> None:
    cancelled: list[int] = []

    class Late(Plain):
        """Never answers."""

        async def step_async(self, action: str) -> Any:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancelled.append(self.task.index)
                raise

    limits = LimitOptions(turn_timeout_s=0.2)
    played = rollout(EnvFactory(Late), policy(), jobs(3), limits=limits)
    assert [t.stop for t in played] == [StopReason.TIMEOUT] * 3
    assert sorted(cancelled) == [0, 1, 2]


def test_episodes_end_at_their_time_out() -> None:
    limits = LimitOptions(episode_timeout_s=0.3)
    fast, slow = rollout(
        EnvFactory(Blocking), policy(), [Job("train", 0), Job("train", 1)], limits=limits
    )
    assert fast.stop is StopReason.MAX_TURNS
    assert slow.stop is StopReason.TIMEOUT
    assert "longer than 0.3 s" in str(slow.error)


def test_an_episode_that_ends_while_it_waits_for_the_policy_is_no_crash() -> None:
    limits = LimitOptions(episode_timeout_s=1e-9)
    for kind in (Plain, Blocking):
        played = rollout(EnvFactory(kind), policy(2), jobs(4), overdue(), limits)
        assert [t.stop for t in played] == [StopReason.TIMEOUT] * 4


def test_a_quorum_leaves_the_stragglers_of_its_group_behind() -> None:
    class OneHangs(Plain):
        """The first rollout of every group hangs."""

        metadata = {**Plain.metadata, "blocking": True}  # noqa: RUF012

        def respond(self, action: str) -> th.Reply:
            if action == "hang":
                Blocking.release.wait()
            return th.Reply("", reward=1.0)

    seen: list[int] = []

    def act(env: th.TextEnv, rng: random.Random) -> str:
        seen.append(env.task.index)
        return "hang" if seen.count(env.task.index) == 1 else "1"

    limits = LimitOptions(quorum=3, grace_s=0.2)
    groups = rollout_groups(
        EnvFactory(OneHangs), ScriptedPolicy(POLICY, act), [Job("train", 0), Job("train", 1)], 4,
        limits=limits,
    )  # fmt: skip
    for group in groups:
        stops = [t.stop for t in group.trajectories]
        assert stops.count(StopReason.TIMEOUT) == 1
        assert stops.count(StopReason.MAX_TURNS) == 3


def test_an_interrupt_keeps_what_is_finished_and_leaks_nothing() -> None:
    Blocking.release.set()
    before = threading.active_count()
    one = policy(8)
    with pytest.raises(InterruptedRunError) as caught:
        rollout(EnvFactory(Blocking), one, jobs(64), lambda done, _: done >= 10)
    finished: list[Trajectory] = caught.value.finished
    assert 10 <= len(finished) < 64
    assert all(len(t.turns) == 3 for t in finished if not t.error)
    assert not one._episodes
    ends = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < ends:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_keyboard_interrupt_is_an_interrupt() -> None:
    def act(env: th.TextEnv, rng: random.Random) -> str:
        if env.task.index == 5:
            raise KeyboardInterrupt
        return "1"

    with pytest.raises(InterruptedRunError) as caught:
        rollout(EnvFactory(Plain), ScriptedPolicy(POLICY, act, 1), jobs(8))
    assert [t.task.index for t in caught.value.finished] == [0, 1, 2, 3, 4]


def test_a_user_s_mistake_is_no_failed_episode() -> None:
    class Blocks(Blocking):
        """Refuses."""

        def start(self) -> str:
            raise ConfigError("no such file")

    with pytest.raises(ConfigError, match="no such file"):
        rollout(EnvFactory(Blocks), policy(), jobs(2))


def test_forks_share_their_beginning_and_go_on_apart() -> None:
    branch = BranchOptions(at=(1, 2), factor=2)
    groups = rollout_groups(EnvFactory(Plain), policy(), jobs(3), 2, branch=branch)
    straight = rollout_groups(EnvFactory(Plain), policy(), jobs(3), 2)
    for group, plain in zip(groups, straight, strict=True):
        assert [t.sample for t in group.trajectories] == list(range(8))
        assert all(len(t.turns) == 3 for t in group.trajectories)
        by_sample = {t.sample: t for t in group.trajectories}
        parents = [t.fork_parent for t in group.trajectories]
        assert parents == [None, 0, 0, 2, None, 4, 4, 6]
        assert [t.fork_turn for t in group.trajectories] == [None, 2, 1, 2] * 2
        for child in group.trajectories:
            if child.fork_parent is not None:
                parent, turn = by_sample[child.fork_parent], child.fork_turn
                assert child.turns[:turn] == parent.turns[:turn]
                assert child.turns[turn:] != parent.turns[turn:]
        assert len(plain.trajectories) == 2


def test_forks_are_the_same_whatever_the_schedule() -> None:
    branch = BranchOptions(at=(1,), factor=3)
    many = rollout_groups(EnvFactory(Plain), policy(), jobs(4), 2, branch=branch)
    few = rollout_groups(EnvFactory(Plain), policy(1), jobs(4), 2, branch=branch)
    assert many == few


@pytest.mark.parametrize("is_blocking", [False, True])
def test_a_fork_that_fails_is_a_masked_sibling_of_the_others(is_blocking: bool) -> None:
    begun = Counter[int]()

    class Flaky(Plain):
        """Starts twice: two rollouts of a task, but no replay of them."""

        metadata = {**Plain.metadata, "blocking": is_blocking}  # noqa: RUF012

        def start(self) -> str:
            begun[self.instance["n"]] += 1
            if self.task.index == 1 and begun[self.instance["n"]] > 2:
                raise EnvError("no more games today")
            return super().start()

    branch = BranchOptions(at=(2,), factor=2)
    healthy, flaky = rollout_groups(EnvFactory(Flaky), policy(), jobs(2), 2, branch=branch)
    assert not any(t.is_masked for t in healthy.trajectories)
    for parent, child in zip(flaky.trajectories[::2], flaky.trajectories[1::2], strict=True):
        assert parent.stop is StopReason.MAX_TURNS
        assert (child.sample, child.fork_parent) == (parent.sample + 1, parent.sample)
        assert child.turns == parent.turns[: child.fork_turn]
        assert child.is_masked
        assert child.stop is StopReason.ENV_ERROR
        assert child.error == "no more games today"


def test_a_fork_that_replays_to_another_end_is_masked() -> None:
    begun = Counter[int]()

    class Moody(Plain):
        """Its second game is over after one turn."""

        def start(self) -> str:
            begun[self.instance["n"]] += 1
            return super().start()

        def respond(self, action: str) -> th.Reply:
            if begun[self.instance["n"]] > 1:
                return th.End("over", success=False)
            return super().respond(action)

    branch = BranchOptions(at=(2,), factor=2)
    (group,) = rollout_groups(EnvFactory(Moody), policy(), jobs(1), 1, branch=branch)
    parent, child = group.trajectories
    assert (parent.is_masked, child.is_masked) == (False, True)
    assert "is not the same when it is replayed" in str(child.error)


def test_a_fork_that_hangs_ends_at_its_time_out() -> None:
    begun = Counter[int]()

    class Stuck(Blocking):
        """Its second game does not begin."""

        def start(self) -> str:
            begun[self.instance["n"]] += 1
            if begun[self.instance["n"]] > 1:
                Blocking.release.wait()
            return super().start()

    limits = LimitOptions(turn_timeout_s=0.2)
    branch = BranchOptions(at=(1,), factor=2)
    tasks = [Job("train", 0), Job("train", 10)]
    groups = rollout_groups(
        EnvFactory(Stuck), policy(), tasks, 1, overdue(), limits=limits, branch=branch
    )
    for group in groups:
        assert [t.stop for t in group.trajectories] == [StopReason.TIMEOUT]
        assert "did not answer within 0.4 s" in str(group.trajectories[0].error)


def test_forks_of_what_blocks_are_those_of_what_does_not() -> None:
    class Slow(Plain):
        """Takes its time."""

        metadata = {**Plain.metadata, "blocking": True}  # noqa: RUF012

    branch = BranchOptions(at=(1, 2), factor=2)
    calm, slow = (
        rollout_groups(EnvFactory(kind), policy(), jobs(3), 2, branch=branch)
        for kind in (Plain, Slow)
    )
    for one, other in zip(calm, slow, strict=True):
        assert said(one.trajectories) == said(other.trajectories)


@pytest.mark.parametrize(("most", "peak"), [(20, 18), (9, 9), (4, 9)])
def test_forks_stay_within_the_most_episodes_at_a_time(most: int, peak: int) -> None:
    class Counting(ScriptedPolicy):
        """Notes how many episodes there are."""

        peak = 0

        def poll(self) -> list[Decision]:
            self.peak = max(self.peak, len(self._episodes))
            return super().poll()

    one = Counting(POLICY, lambda env, rng: "1", most)
    branch = BranchOptions(at=(1, 2), factor=3)
    groups = rollout_groups(EnvFactory(Plain), one, jobs(3), 2, branch=branch)
    assert [len(group.trajectories) for group in groups] == [18] * 3
    assert one.peak == peak  # a single rollout becomes nine, however few there may be


class Failing:
    """A policy whose engine fails under every third episode."""

    name = "failing"
    max_concurrent = 256

    def __init__(self) -> None:
        self.waiting: list[int] = []

    def begin(self, opening: Opening) -> None:
        self.waiting.append(opening.episode)

    def poll(self) -> list[Decision]:
        waiting, self.waiting = self.waiting, []
        return [
            Decision(e, "", stop=StopReason.ENGINE_ERROR, error="vLLM failed")
            if e % 3 == 0
            else Decision(e, "1")
            for e in waiting
        ]

    def observe(self, episode: int, messages: list[Message]) -> None:
        self.waiting.append(episode)

    def fork(self, episode: int, opening: Opening) -> None:
        self.begin(opening)

    def end(self, episode: int) -> None:
        pass


def test_an_engine_that_fails_masks_the_episodes_it_failed_under() -> None:
    played = rollout(EnvFactory(Plain), Failing(), jobs(9))
    for index, trajectory in enumerate(played):
        is_lost = index % 3 == 0
        assert trajectory.is_masked == is_lost
        assert (trajectory.stop is StopReason.ENGINE_ERROR) == is_lost
        assert trajectory.error == ("vLLM failed" if is_lost else None)
