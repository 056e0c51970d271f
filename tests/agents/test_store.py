"""The run store keeps everything, lets readers in, and survives a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from turnhalle.agents.core import Segment, Trajectory, Turn
from turnhalle.agents.store import FILE, RunStore
from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import StoreError
from turnhalle.envs.tasks import Task


def played(index: int = 0) -> Trajectory:
    turn = Turn(
        "7 ☃", "8", 0.5, {"near": 0.5}, [Segment([1, 2]), Segment([3, 70000], [-0.25, -1.5], 4)]
    )
    return Trajectory(
        Task("x/Y-v0", "train", index, 2, {"n": [1]}, 3),
        sample=1,
        turns=[turn, Turn("9", "", 0.0, faults={"bad_json": 2, "no_call": 1})],
        final_observation="bye",
        success=True,
        terminated=True,
        stop=StopReason.FINISHED,
    )


def test_an_episode_comes_back_as_it_was(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    store.write_step(3, {"success": 0.5}, [("train", played(), [0.1, -0.2])])
    assert store.episode(store.episode_ids("train", 3)[0]) == played()
    assert store.metrics("success") == [(3, 0.5)]
    assert store.metric_names() == ["success"]


def test_trajectories_survive_json() -> None:
    assert Trajectory.from_json(played().to_json()) == played()
    with pytest.raises(ValueError, match="trajectory schema 99"):
        Trajectory.from_json(played().to_json() | {"schema": 99})


def test_a_step_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    broken = played()
    broken.turns[1].observation = object()  # type: ignore[assignment]
    with pytest.raises(sqlite3.Error):
        store.write_step(1, {"success": 1.0}, [("train", played(), None), ("train", broken, None)])
    assert store.metrics("success") == []
    assert store.episode_ids("train") == []


def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own, is what a full disk is."""
    code = f"""
        import resource
        from pathlib import Path
        from turnhalle.agents.store import RunStore
        from turnhalle.envs.errors import StoreError
        store = RunStore(Path({str(tmp_path)!r}), create=True)
        store.put("kept", 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            store.put("large", "x" * 10**6)
        except StoreError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert "cannot write the run's store" in done.stdout, done.stderr
    store = RunStore(tmp_path)
    assert store.get("kept") == 1
    assert store.get("large") is None


def test_what_came_after_a_step_can_be_forgotten(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    for step in range(4):
        store.write_step(step, {"success": 0.1 * step}, [("eval", played(step), None)])
        store.write_event(step, "note", f"at {step}")
    store.forget_after(1)
    assert [step for step, _ in store.metrics("success")] == [0, 1]
    assert store.evaluated_steps() == [0, 1]
    assert [step for step, _, _ in store.events()] == [0, 1]
    left = sqlite3.connect(tmp_path / FILE).execute("select count(*) from segments").fetchone()
    assert left == (4,)


def test_a_reader_may_look_while_training_writes(tmp_path: Path) -> None:
    writer = RunStore(tmp_path, create=True)
    reader = RunStore(tmp_path, read_only=True)
    writer.write_step(1, {"success": 1.0})
    assert reader.metrics("success") == [(1, 1.0)]
    with pytest.raises(sqlite3.OperationalError):
        reader.put("x", 1)


def test_folders_with_and_without_a_run_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no run"):
        RunStore(tmp_path)
    RunStore(tmp_path, create=True).close()
    with pytest.raises(StoreError, match="already holds a run"):
        RunStore(tmp_path, create=True)


def test_other_versions_and_broken_files_are_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    store.put("schema", 99)
    store.close()
    with pytest.raises(StoreError, match="has schema 99"):
        RunStore(tmp_path)
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        RunStore(tmp_path, read_only=True)


def as_first_schema(folder: Path) -> None:
    """Turn a store into one that an older Turnhalle wrote."""
    db = sqlite3.connect(folder / FILE)
    db.execute("alter table turns drop column faults")
    db.execute("alter table segments drop column parent")
    db.execute("alter table segments drop column kept_mass")
    db.execute("alter table episodes drop column fork_parent")
    db.execute("alter table episodes drop column fork_turn")
    db.execute("update meta set value = '1' where key = 'schema'")
    db.commit()
    db.close()


def without_faults(record: Trajectory) -> Trajectory:
    for turn in record.turns:
        turn.faults = {}
    return record


def test_a_store_of_the_first_schema_is_read_as_it_is_and_upgraded_by_a_writer(
    tmp_path: Path,
) -> None:
    store = RunStore(tmp_path, create=True)
    store.write_step(1, {}, [("train", played(), None)])
    store.close()
    as_first_schema(tmp_path)
    reader = RunStore(tmp_path, read_only=True)
    assert reader.episode(1) == without_faults(played())
    assert reader.get("schema") == 1
    reader.close()
    writer = RunStore(tmp_path)
    writer.write_step(2, {}, [("train", played(), [0.5, 0.25])])
    assert writer.episode(1) == without_faults(played())
    assert writer.episode(2) == played()
    writer.close()
    assert RunStore(tmp_path).get("schema") == 4
    db = sqlite3.connect(tmp_path / FILE)
    rows = db.execute("select advantage from turns where episode = 2 order by turn").fetchall()
    assert rows == [(0.5,), (0.25,)]


def branched() -> Trajectory:
    record = played()
    record.turns[1].segments = [Segment([9, 8], parent=0), Segment([7], [-0.5], 4)]
    record.fork_parent, record.fork_turn = 0, 1
    return record


def test_branches_and_forks_are_kept(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    store.write_step(1, {}, [("train", branched(), None)])
    assert store.episode(1) == branched()
    assert Trajectory.from_json(branched().to_json()) == branched()
    assert branched().to_json()["schema"] == 3


def test_what_top_p_kept_is_kept(tmp_path: Path) -> None:
    record = played()
    record.turns[0].segments[1].kept_mass = [0.5, 1.0]
    store = RunStore(tmp_path, create=True)
    store.write_step(1, {}, [("train", record, None)])
    assert store.episode(1) == record
    data = record.to_json()
    assert Trajectory.from_json(data) == record
    assert data["schema"] == 4
    assert "parent" not in data["turns"][0]["segments"][0]
    assert "kept_mass" not in played().to_json()["turns"][0]["segments"][1]


def test_straight_trajectories_are_written_as_before_there_were_branches() -> None:
    data = played().to_json()
    assert data["schema"] == 2
    assert "fork_parent" not in data
    assert "parent" not in data["turns"][0]["segments"][0]


def test_trajectories_of_the_first_schema_are_read(tmp_path: Path) -> None:
    old = played().to_json() | {"schema": 1}
    for turn in old["turns"]:
        del turn["faults"]
    assert Trajectory.from_json(old) == without_faults(played())


def test_a_killed_writer_leaves_a_store_that_opens(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from turnhalle.agents.store import RunStore
        store = RunStore(Path({str(tmp_path)!r}), create=True)
        for step in range(10**6):
            store.write_step(step, {{f"m{{i}}": step for i in range(50)}})
            print(step, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = [int(process.stdout.readline()) for _ in range(30)][-1]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    store = RunStore(tmp_path)
    steps = [step for step, _ in store.metrics("m0")]
    assert steps[: last + 1] == list(range(last + 1))
    assert steps == [step for step, _ in store.metrics("m49")]
