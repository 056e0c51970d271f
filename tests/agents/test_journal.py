"""A journal holds what is finished of a batch; nothing of it is played twice."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.agents.core import Segment, Trajectory, Turn
from turnhalle.agents.episode import Job
from turnhalle.agents.journal import Journal
from turnhalle.agents.limits import BranchOptions, LimitOptions
from turnhalle.agents.rollout import rollout_groups
from turnhalle.agents.scripted import ScriptedPolicy
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import ConfigError, StoreError
from turnhalle.envs.registry import EnvFactory
from turnhalle.envs.tasks import Task


class Counted(th.TextEnv):
    """Knows how often it was played, and breaks at the odd tasks the first time."""

    played: list[int] = []  # noqa: RUF012
    is_fragile = True

    def draw(self, rng: Any, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**9)}

    def start(self) -> str:
        return "go"

    def respond(self, action: str) -> th.Reply:
        Counted.played.append(self.task.index)
        if self.task.index % 2 and Counted.is_fragile:
            raise RuntimeError("out of order")
        return th.End("", success=True, reward=1.0)


def play(journal: Journal | None) -> list[Trajectory]:
    jobs = [Job("train", index, seed=3) for index in range(3)]
    policy = ScriptedPolicy("says", lambda env, rng: "hello")
    groups = rollout_groups(EnvFactory(Counted), policy, jobs, 2, journal=journal)
    return [t for group in groups for t in group.trajectories]


def test_what_is_finished_is_not_played_again_but_what_failed_is(tmp_path: Path) -> None:
    file = tmp_path / "begun" / "step-000001-0.jsonl"
    Counted.played.clear()
    Counted.is_fragile = True
    first = play(Journal(file, [], 0))
    assert [t.stop for t in first[2:4]] == [StopReason.ENV_ERROR] * 2
    assert sorted(Counted.played) == [0, 0, 1, 1, 2, 2]
    Counted.is_fragile = False
    Counted.played.clear()
    again = play(Journal(file, [file], 0))
    assert Counted.played == [1, 1]
    assert again == play(None)
    assert [(t.task.index, t.sample) for t in again] == [(i, s) for i in range(3) for s in range(2)]


def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "step-000001-0.jsonl"
    record = Trajectory(Task("x", "train", 5, 1, {}), 0, stop=StopReason.FINISHED)
    Journal(file, [], 0).add(Job("train", 5), record)
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole + whole[: len(whole) // 2], encoding="utf-8")
    Journal(file, [file], 0).add(Job("train", 6), record)
    read = Journal(file, [file], 0)
    assert read.find(Job("train", 5)) == read.find(Job("train", 6)) == record
    assert read.find(Job("train", 5, sample=1)) is None


def test_rollouts_of_another_adapter_are_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "step-000001-0.jsonl"
    turn = Turn("", "", 0.0, segments=[Segment([1]), Segment([2], [-0.5], 4)])
    record = Trajectory(Task("x", "train", 5, 1, {}), 0, [turn], stop=StopReason.FINISHED)
    Journal(file, [], 4).add(Job("train", 5), record)
    assert Journal(file, [file], 4).find(Job("train", 5)) == record
    assert Journal(file, [file], 3).find(Job("train", 5)) is None


def test_a_group_that_had_its_quorum_waits_for_no_straggler_again(tmp_path: Path) -> None:
    class Slow(Counted):
        metadata = {**Counted.metadata, "blocking": True}  # noqa: RUF012

        def respond(self, action: str) -> th.Reply:
            if self.is_straggler():
                time.sleep(20)
            return th.End("", success=True, reward=1.0)

        def is_straggler(self) -> bool:
            Slow.played.append(0)
            return len(Slow.played) > 3

    Slow.played = []
    limits = LimitOptions(quorum=3, grace_s=0.1)
    file = tmp_path / "step-000001-0.jsonl"
    policy = ScriptedPolicy("says", lambda env, rng: "hello")
    for _ in range(2):
        started = time.monotonic()
        journal = Journal(file, [file] if file.exists() else [], 0)
        job = Job("train", 0)
        groups = rollout_groups(EnvFactory(Slow), policy, [job], 4, limits=limits, journal=journal)
        stops = Counter(t.stop for t in groups[0].trajectories)
        assert stops == {StopReason.FINISHED: 3, StopReason.TIMEOUT: 1}
        assert time.monotonic() - started < 10


def test_forks_have_no_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a.jsonl", [], 0)
    policy = ScriptedPolicy("says", lambda env, rng: "hello")
    branch = BranchOptions(at=(1,))
    with pytest.raises(ConfigError, match="leave out one of journal and branch"):
        rollout_groups(
            EnvFactory(Counted), policy, [Job("train", 0)], 2, branch=branch, journal=journal
        )


def test_a_full_disk_is_said_with_what_to_do() -> None:
    record = Trajectory(Task("x", "train", 5, 1, {}), 0, stop=StopReason.FINISHED)
    with pytest.raises(StoreError, match=r"/dev/full: No space left on device. Make room"):
        Journal(Path("/dev/full"), [], 0).add(Job("train", 5), record)
