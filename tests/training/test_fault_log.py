"""The fault log: everything is written down, and only updates without any step end a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnhalle.agents.core import Group
from turnhalle.agents.evaluate import evaluate
from turnhalle.agents.scripted import scripted_policy
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import DivergedError
from turnhalle.envs.registry import resolve
from turnhalle.training.fault_log import FaultLog
from turnhalle.training.learner import Update
from turnhalle.training.progress import Silent


def groups() -> list[Group]:
    factory = resolve("math")
    played = evaluate(factory, scripted_policy("oracle", factory), 2).trajectories
    return [Group(t.task, [t]) for t in played]


def test_updates_that_took_some_of_their_steps_end_no_run(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    log, played = FaultLog(store, Silent(), 0), groups()
    for step in range(1, 6):
        log.of_update(step, played, Update({"loss": 1.0}, blamed=[1], num_skipped=1))
    assert log.in_a_row == 0
    kinds = [kind for _, kind, _ in store.events()]
    assert (kinds.count("skipped_update"), kinds.count("not_finite")) == (5, 5)
    store.close()


def test_the_third_update_in_a_row_without_a_step_ends_the_run(tmp_path: Path) -> None:
    store = RunStore(tmp_path, create=True)
    log, played = FaultLog(store, Silent(), 0), groups()
    skipped = Update({}, blamed=[1], num_skipped=2)
    log.of_update(1, played, skipped)
    log.of_update(2, played, Update({"loss": 1.0}))
    log.of_update(3, played, skipped)
    log.of_update(4, played, Update({}, dropped=[0]))
    with pytest.raises(DivergedError, match=r"3 updates in a row .*at step 5 because of .*task 1"):
        log.of_update(5, played, skipped)
    store.close()
