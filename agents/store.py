"""The run store: one SQLite file that holds everything that happened in a run.

The file is in WAL mode, so readers may open it while training writes, and a kill at any point
leaves a store that opens. Token ids and log-probs are raw little-endian int32 and float32, the
rest is text and numbers; nothing is pickled.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from turnhalle.envs.core import StopReason
from turnhalle.envs.errors import StoreError
from turnhalle.envs.tasks import Task

from .core import Segment, Trajectory, Turn

SCHEMA_VERSION = 4
FILE = "run.db"
_TABLES = """
create table meta (key text primary key, value text not null);
create table metrics (
    step integer not null, name text not null, value real not null, primary key (step, name)
) without rowid;
create table episodes (
    id integer primary key, step integer not null, phase text not null, task text not null,
    sample integer not null, success integer not null, episode_return real not null,
    terminated integer not null, truncated integer not null, stop text not null, error text,
    final_observation text not null, fork_parent integer, fork_turn integer
);
create index episodes_by_step on episodes (step, phase);
create table turns (
    episode integer not null references episodes on delete cascade, turn integer not null,
    observation text not null, action text not null, reward real not null, parts text not null,
    faults text not null default '{}', advantage real, primary key (episode, turn)
) without rowid;
create table segments (
    episode integer not null references episodes on delete cascade, turn integer not null,
    segment integer not null, token_ids blob not null, logprobs blob,
    adapter_version integer not null, parent integer, kept_mass blob,
    primary key (episode, turn, segment)
) without rowid;
create table events (
    id integer primary key, time real not null, step integer not null, kind text not null,
    text text not null
);
"""
_DISK_ERRORS = ("SQLITE_FULL", "SQLITE_IOERR")
_ADDED = (
    (2, "turns", "faults", "text not null", "'{}'"),
    (3, "segments", "parent", "integer", "null"),
    (3, "episodes", "fork_parent", "integer", "null"),
    (3, "episodes", "fork_turn", "integer", "null"),
    (4, "segments", "kept_mass", "blob", "null"),
)
"""Columns that came later: since which schema, where, and what they are in older stores."""


class RunStore:
    """Reads and writes the `run.db` of a run folder.

    Phases of episodes are "train" and "eval"; evaluations before training are of step 0.
    """

    def __init__(self, folder: Path, *, create: bool = False, read_only: bool = False) -> None:
        """Open the store of a run.

        Args:
            folder: The run's folder.
            create: Make a new store; the folder must hold none.
            read_only: Leave the file alone.

        Raises:
            StoreError: No run there, one there already, or one of another version.
        """
        path = folder / FILE
        if create and path.exists():
            raise StoreError(f"{folder} already holds a run; give another folder, or --resume")
        if not create and not path.is_file():
            raise StoreError(f"{folder} holds no run (no {FILE})")
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        mode = "ro" if read_only else "rwc" if create else "rw"
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True)
        self._db.execute("pragma foreign_keys = on")
        if create:
            self._db.execute("pragma journal_mode = wal")
            with self._writing():
                # One transaction: a kill leaves either no table or all of them.
                self._db.execute("begin")
                for statement in filter(str.strip, _TABLES.split(";")):
                    self._db.execute(statement)
                self._put("schema", SCHEMA_VERSION)
        version = self.get("schema")
        if version not in range(1, SCHEMA_VERSION + 1):
            raise StoreError(f"{path} has schema {version}, this Turnhalle reads {SCHEMA_VERSION}")
        if version != SCHEMA_VERSION:
            self._adopt(version, read_only)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value under a key, such as the run's configuration."""
        with self._writing():
            self._put(key, value)

    def get(self, key: str, default: Any = None) -> Any:
        """A JSON value by its key."""
        try:
            row = self._db.execute("select value from meta where key = ?", [key]).fetchone()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"the run's store cannot be read: {error}") from error
        return default if row is None else json.loads(row[0])

    def write_step(
        self,
        step: int,
        metrics: Mapping[str, float],
        episodes: Iterable[tuple[str, Trajectory, Sequence[float] | None]] = (),
    ) -> None:
        """Record a step in one transaction.

        Args:
            step: The optimizer step, 0 before the first.
            metrics: By name; a metric already there is replaced.
            episodes: Phase, trajectory, and the advantage of each turn where there is one.
        """
        with self._writing():
            self._db.executemany(
                "insert or replace into metrics values (?, ?, ?)",
                [(step, name, float(value)) for name, value in metrics.items()],
            )
            for phase, trajectory, advantages in episodes:
                self._write_episode(step, phase, trajectory, advantages)

    def write_event(self, step: int, kind: str, text: str) -> None:
        """Record something that happened: a refusal, an interruption, a failed episode."""
        with self._writing():
            self._db.execute(
                "insert into events (time, step, kind, text) values (?, ?, ?, ?)",
                [time.time(), step, kind, text],
            )

    def forget_after(self, step: int) -> None:
        """Drop everything recorded after a step, before the run goes on from there."""
        with self._writing():
            for table in ("metrics", "episodes", "events"):
                self._db.execute(f"delete from {table} where step > ?", [step])

    def metrics(self, name: str) -> list[tuple[int, float]]:
        """Step and value of a metric, in order."""
        query = "select step, value from metrics where name = ? order by step"
        return [(int(step), float(value)) for step, value in self._db.execute(query, [name])]

    def metric_names(self) -> list[str]:
        """Names of all metrics."""
        return [row[0] for row in self._db.execute("select distinct name from metrics order by 1")]

    def events(self) -> list[tuple[int, str, str]]:
        """Step, kind and text of all events, in order."""
        return list(self._db.execute("select step, kind, text from events order by id"))

    def episode_ids(self, phase: str, step: int | None = None) -> list[int]:
        """Ids of the episodes of a phase, in order."""
        query = "select id from episodes where phase = ? and (? is null or step = ?) order by id"
        return [row[0] for row in self._db.execute(query, [phase, step, step])]

    def evaluated_steps(self) -> list[int]:
        """Steps at which the policy was evaluated, in order."""
        query = "select distinct step from episodes where phase = 'eval' order by step"
        return [row[0] for row in self._db.execute(query)]

    def episode(self, id: int) -> Trajectory:
        """One episode, whole.

        Raises:
            StoreError: No such episode.
        """
        row = self._db.execute(
            "select task, sample, success, terminated, truncated, stop, error, final_observation, "
            "fork_parent, fork_turn from episodes where id = ?",
            [id],
        ).fetchone()
        if row is None:
            raise StoreError(f"the run has no episode {id}")
        task, sample, success, terminated, truncated, stop, error, final, *fork = row
        return Trajectory(
            Task.from_json(json.loads(task)),
            sample,
            self._turns(id),
            final,
            bool(success),
            bool(terminated),
            bool(truncated),
            StopReason(stop),
            error,
            *fork,
        )

    def _adopt(self, version: int, read_only: bool) -> None:
        """Go on with a store of an older schema."""
        added = [column for since, *column in _ADDED if since > version]
        if read_only:  # the process that wrote it may still be at it
            for table in {table for table, *_ in added}:
                more = ", ".join(f"{value} as {name}" for t, name, _, value in added if t == table)
                query = f"select *, {more} from main.{table}"
                self._db.execute(f"create temp view {table} as {query}")
            return
        with self._writing():
            self._db.execute("begin")
            for table, name, kind, value in added:
                self._db.execute(f"alter table {table} add column {name} {kind} default {value}")
            self._put("schema", SCHEMA_VERSION)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: all of it is written or nothing.

        Raises:
            StoreError: The disk is full.
        """
        try:
            with self._db:
                yield
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith(_DISK_ERRORS):
                raise
            raise StoreError(
                f"cannot write the run's store: {error}. It is as it was; with room, go on by "
                "turnhalle train --resume"
            ) from error

    def _put(self, key: str, value: Any) -> None:
        self._db.execute("insert or replace into meta values (?, ?)", [key, json.dumps(value)])

    def _turns(self, id: int) -> list[Turn]:
        query = (
            "select observation, action, reward, parts, faults from turns where episode = ? "
            "order by turn"
        )
        turns = [
            Turn(observation, action, reward, json.loads(parts), faults=json.loads(faults))
            for observation, action, reward, parts, faults in self._db.execute(query, [id])
        ]
        query = (
            "select turn, token_ids, logprobs, adapter_version, parent, kept_mass from segments "
            "where episode = ? order by turn, segment"
        )
        for turn, ids, logprobs, version, parent, mass in self._db.execute(query, [id]):
            tokens = np.frombuffer(ids, "<i4").tolist()
            segment = Segment(tokens, _floats(logprobs), version, parent, _floats(mass))
            turns[turn].segments.append(segment)
        return turns

    def _write_episode(
        self, step: int, phase: str, record: Trajectory, advantages: Sequence[float] | None
    ) -> None:
        columns = (
            step, phase, json.dumps(record.task.to_json()), record.sample, record.success,
            record.episode_return, record.terminated, record.truncated, record.stop, record.error,
            record.final_observation, record.fork_parent, record.fork_turn,
        )  # fmt: skip
        marks = ", ".join("?" * len(columns))
        id = self._db.execute(f"insert into episodes values (null, {marks})", columns).lastrowid
        for number, turn in enumerate(record.turns):
            worth = None if advantages is None else float(advantages[number])
            self._db.execute(
                "insert into turns (episode, turn, observation, action, reward, parts, faults, "
                "advantage) values (?, ?, ?, ?, ?, ?, ?, ?)",
                (id, number, turn.observation, turn.action, turn.reward, json.dumps(turn.parts),
                 json.dumps(turn.faults), worth),
            )  # fmt: skip
            self._db.executemany(
                "insert into segments values (?, ?, ?, ?, ?, ?, ?, ?)",
                [(id, number, i, *_columns(s)) for i, s in enumerate(turn.segments)],
            )


def _columns(segment: Segment) -> tuple[bytes, bytes | None, int, int | None, bytes | None]:
    ids = np.array(segment.token_ids, dtype="<i4").tobytes()
    logprobs, mass = _blob(segment.logprobs), _blob(segment.kept_mass)
    return ids, logprobs, segment.adapter_version, segment.parent, mass


def _blob(numbers: list[float] | None) -> bytes | None:
    return None if numbers is None else np.array(numbers, dtype="<f4").tobytes()


def _floats(blob: bytes | None) -> list[float] | None:
    return None if blob is None else np.frombuffer(blob, "<f4").tolist()
