"""Labels: environments of one id with other options are measured apart, equal ones refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from turnhalle.agents.evaluate import Evaluation
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.registry import resolve
from turnhalle.training import measure
from turnhalle.training.checks import open_environments
from turnhalle.training.labels import labels
from turnhalle.training.measure import Examiner
from turnhalle.training.options import TrainOptions
from turnhalle.training.prime import PrimeOptions, prime
from turnhalle.training.progress import Silent

CALCULATOR = {"id": "mathproblems", "options": {"mode": "calculator"}}
SINGLE = {"id": "mathproblems", "options": {"mode": "single"}}


def test_an_id_that_is_there_once_is_its_own_label() -> None:
    factories = [resolve("math"), resolve("mathproblems", mode="calculator")]
    assert labels(factories) == ["turnhalle/Math-v0", "turnhalle/MathProblems-v0"]


def test_an_id_that_repeats_is_told_by_its_options() -> None:
    factories = [
        resolve("mathproblems"),
        resolve("math"),
        resolve("mathproblems", mode="calculator", difficulty=2),
    ]
    assert labels(factories) == [
        "turnhalle/MathProblems-v0",
        "turnhalle/Math-v0",
        "turnhalle/MathProblems-v0(difficulty=2, mode=calculator)",
    ]


def test_equal_environments_are_refused_under_any_of_their_names(tmp_path: Path) -> None:
    said = r"turnhalle/Math-v0 is there 2 times, with equal options"
    mixed = {"env": {"id": "math"}, "mix": [{"env": {"id": "turnhalle/Math-v0"}}]}
    with pytest.raises(ConfigError, match=said):
        open_environments(TrainOptions.model_validate(mixed))
    demos = [{"env": {"id": "math"}}, {"env": {"id": "math"}}]
    with pytest.raises(ConfigError, match=said):
        prime(PrimeOptions.model_validate({"demos": demos}), tmp_path / "x", Silent())


def test_a_mix_of_one_id_is_measured_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def played(factory: Any, policy: Any, tasks: int, **_: Any) -> Evaluation:
        from turnhalle.agents.evaluate import evaluate
        from turnhalle.agents.scripted import scripted_policy

        name = "oracle" if factory.kwargs.get("mode") == "calculator" else "null"
        return evaluate(factory, scripted_policy(name, factory), tasks)

    monkeypatch.setattr(measure, "evaluate", played)
    given = {"env": SINGLE, "mix": [{"env": CALCULATOR}], "evaluate": {"tasks": 10}}
    options = TrainOptions.model_validate(given)
    factories = open_environments(options)
    store = RunStore(tmp_path / "run", create=True)
    policy: Any = type("Named", (), {"name": "policy"})
    Examiner(factories, policy, options, store, Silent()).measure(0, watch=None)  # type: ignore[arg-type]
    rates = {mode: store.metrics(f"eval/success/turnhalle/MathProblems-v0(mode={mode})")
             for mode in ("single", "calculator")}  # fmt: skip
    store.close()
    assert rates == {"single": [(0, 0.0)], "calculator": [(0, 1.0)]}


def test_demonstrations_of_one_id_are_measured_apart(tmp_path: Path) -> None:
    """`stop_at` asks every one of them, and so does the card."""
    given = {
        "demos": [{"env": SINGLE, "episodes": 20}, {"env": CALCULATOR, "episodes": 20}],
        "stages": [{"sft": {"steps": 1, "batch_tokens": 256}}],
        "evaluate_tasks": 10,
        "max_new_tokens": 4,
    }
    done = prime(PrimeOptions.model_validate(given), tmp_path / "primed", Silent())
    names = {f"turnhalle/MathProblems-v0(mode={mode})" for mode in ("single", "calculator")}
    assert done.evaluations.keys() == done.greedy.keys() == names
    card = (tmp_path / "primed" / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in card for name in names)
    assert all(f"the oracle of {name} (20)" in card for name in names)
