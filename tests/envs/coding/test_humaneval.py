"""HumanEval and files of rows: canonical solutions pass, nothing else does, bad rows are named."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.coding.cheats import cheat, cheats, slow_cheats
from turnhalle.envs.coding.grading.boxes import Boxes
from turnhalle.envs.coding.grading.grade import grade
from turnhalle.envs.coding.grading.tests import Submission, Test
from turnhalle.envs.coding.rows import CodeProblem, read_rows
from turnhalle.envs.errors import ConfigError, DataError
from turnhalle.envs.sandbox.core import Limits

LIMITS = Limits(cpu_s=3.0, wall_s=15.0)
SAMPLE = 12
ROW = {"prompt": "Add two numbers.", "entry_point": "add", "tests": "assert add(1, 2) == 3\n"}


def passes(boxes: Boxes, row: CodeProblem, code: str, tests: list[Test] | None = None) -> bool:
    submission = Submission(row["preamble"] + code, row["entry"])
    return grade(boxes, LIMITS, submission, tests or row["hidden"], whole=False).passed


def sample(path: Path, count: int, seed: int = 0) -> list[CodeProblem]:
    return random.Random(seed).sample(read_rows(path), count)


class Flip(ast.NodeTransformer):
    """Let every assert demand the opposite."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        return ast.Assert(ast.UnaryOp(ast.Not(), node.test), None)


def flipped(tests: list[Test]) -> list[Test]:
    found: list[Test] = []
    for test in tests:
        assert "code" in test
        tree = ast.fix_missing_locations(Flip().visit(ast.parse(test["code"])))
        found.append({"code": ast.unparse(tree), "preamble": test["preamble"]})
    return found


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_canonical_solutions_pass_and_their_flipped_tests_do_not(
    boxes: Boxes, humaneval_rows: Path
) -> None:
    for row in sample(humaneval_rows, SAMPLE):
        assert passes(boxes, row, row["solution"]), row["family"]
        assert not passes(boxes, row, row["solution"], flipped(row["hidden"])), row["family"]
        assert not passes(boxes, row, ""), row["family"]


@pytest.mark.slow
def test_every_canonical_solution_passes_and_no_flipped_test(
    boxes: Boxes, humaneval_rows: Path
) -> None:
    rows = read_rows(humaneval_rows)
    assert [row["family"] for row in rows if not passes(boxes, row, row["solution"])] == []
    wrong = [r["family"] for r in rows if passes(boxes, r, r["solution"], flipped(r["hidden"]))]
    assert wrong == []


def test_no_cheat_passes_a_sample_of_problems(boxes: Boxes, humaneval_rows: Path) -> None:
    names = sorted(cheats())
    for number, row in enumerate(sample(humaneval_rows, SAMPLE, seed=1)):
        for name in names[number::SAMPLE]:
            assert not passes(boxes, row, cheat(name, row["entry"])), (name, row["family"])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*cheats(), *slow_cheats()])
def test_no_cheat_passes_any_problem(boxes: Boxes, humaneval_rows: Path, name: str) -> None:
    rows = read_rows(humaneval_rows)
    rows = rows[:8] if name in slow_cheats() else rows
    code = {row["family"]: cheat(name, row["entry"]) for row in rows}
    assert [r["family"] for r in rows if passes(boxes, r, code[r["family"]])] == []


def test_an_episode_of_a_row(tier: str, humaneval_rows: Path) -> None:
    env = th.make("humaneval", path=humaneval_rows, sandbox={"tier": tier, "slots": 2})
    observation, _ = env.reset(seed=2)
    assert observation == env.instance["question"]
    body = env.instance["solution"].removeprefix(env.instance["preamble"])
    assert env.fork().step(env.instance["solution"])[4]["success"]
    assert env.fork().step(f"```python\n{body}```")[4][
        "success"
    ]  # it goes on where the prompt ends
    assert not env.fork().step(observation)[4]["success"]


def test_the_examples_of_a_docstring_are_visible_tests(tier: str, tmp_path: Path) -> None:
    prompt = 'def add(a, b):\n    """ Add.\n    >>> add(1, 2)\n    3\n'
    prompt += '    >>> add("a", "b")\n    \'ab\'\n    """\n'
    row = {
        "prompt": prompt,
        "entry_point": "add",
        "test": "def check(c):\n    assert c(2, 2) == 4\n",
    }
    rows = [row | {"prompt": f"# {n}\n{prompt}"} for n in range(40)]
    env = th.make(
        "humaneval", path=write(tmp_path / "rows.jsonl", *rows), sandbox={"tier": tier, "slots": 2}
    )
    env.reset(seed=0)
    said, *_ = env.step(th.render_call("test", code="def add(a, b):\n    return 3\n"))
    assert said.startswith('1 of 2 examples pass\nthe example assert (add("a", "b"))')
    assert env.step("def add(a, b):\n    return a + b\n")[4]["success"]
    env.reset(seed=1)
    with pytest.raises(ConfigError, match="no canonical_solution"):
        env.oracle()


def test_an_example_too_deep_for_the_parser_is_none(tmp_path: Path) -> None:
    deep = "-" * 10**5 + "1"
    prompt = (
        f'def add(a):\n    """ Add.\n    >>> add({deep})\n    1\n    >>> add(1)\n    1\n    """\n'
    )
    (row,) = read_rows(write(tmp_path / "rows.jsonl", ROW | {"prompt": prompt}))
    assert [test["code"] for test in row["visible"]] == ["assert (add(1)) == (1)"]  # type: ignore[typeddict-item]
    path = write(tmp_path / "deep.jsonl", ROW | {"tests": f"assert add({deep})"})
    with pytest.raises(DataError, match=r"test 0 is no Python: \w"):
        read_rows(path)


def test_held_out_rows_are_a_split_and_never_drawn(tmp_path: Path) -> None:
    rows = [ROW | {"prompt": f"Add {n}."} for n in range(60)]
    path = write(tmp_path / "all.jsonl", *rows)
    test_path = write(tmp_path / "test.jsonl", *rows[:5])
    env = th.make("humaneval", path=path, test_path=test_path)
    played = [env.reset(options={"split": "test", "task": n})[0] for n in range(6)]
    assert played == [f"Add {n}." for n in (0, 1, 2, 3, 4, 0)]
    drawn = {
        env.reset(options={"split": s, "task": n})[0] for s in ("train", "eval") for n in range(80)
    }
    assert drawn.isdisjoint(played)
    alone = th.make("humaneval", test_path=test_path)
    assert alone.reset(options={"split": "test", "task": 1})[0] == "Add 1."
    with pytest.raises(ConfigError, match="no split 'train'"):
        alone.reset(seed=0)
    with pytest.raises(ConfigError, match="every training row is a test row"):
        th.make("humaneval", path=test_path, test_path=test_path).reset(seed=0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([], "line 2: a row must be an object"),
        ({"prompt": 1}, "line 2: no text in field 'prompt'"),
        ({"prompt": "x", "entry_point": "a b", "tests": "x"}, "'entry_point' must name a function"),
        ({"prompt": "x", "entry_point": "f"}, "no field 'tests' (has 'prompt', 'entry_point')"),
        ({"prompt": "x", "entry_point": "f", "tests": []}, "must be code or a list of tests"),
        ({"prompt": "x", "entry_point": "f", "tests": "def ("}, "test 0 is no Python"),
        ({"prompt": "x", "entry_point": "f", "tests": [{"arg": 1}]}, "test 0 must have 'args'"),
        (
            {"prompt": "x", "entry_point": "f", "tests": [{"args": 1, "expected": 2}]},
            "test 0: args",
        ),
        ({"prompt": "x", "entry_point": "f", "tests": [{"args": []}]}, "expected: field required"),
        ({"prompt": "x", "tests": [{"args": [], "expected": 2}]}, "the row has no 'entry_point'"),
        ({"prompt": "x", "tests": [{"stdin": "", "stdout": "", "rule": "lax"}]}, "rule"),
        ({"prompt": "x", "tests": [{"stdin": "", "stdout": "", "jugde": ""}]}, "jugde"),
        ({"prompt": "x", "entry_point": "f", "tests": "f()", "examples": {}}, "field 'examples'"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "rows.jsonl", ROW, row)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert "rows.jsonl, line 2" in str(caught.value)
    assert said in str(caught.value)


def test_files_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no file"):
        th.make("humaneval", path=tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="holds no rows"):
        th.make("humaneval", path=tmp_path / "empty.jsonl").reset(seed=0)
    monkeypatch.delenv("TURNHALLE_HUMANEVAL")
    with pytest.raises(ConfigError, match="TURNHALLE_HUMANEVAL"):
        th.make("humaneval")


def test_rows_of_programs_and_calls_are_graded(tier: str, tmp_path: Path) -> None:
    rows: list[Any] = [
        {"prompt": f"Print the double {n}.", "tests": [{"stdin": "4", "stdout": "8"}]}
        for n in range(40)
    ]
    path = write(tmp_path / "rows.jsonl", *rows)
    env = th.make("humaneval", path=path, sandbox={"tier": tier, "slots": 2})
    env.reset(seed=0)
    assert env.fork().step("print(2 * int(input()))")[4]["success"]
    assert not env.fork().step("print(2)")[4]["success"]
    calls = {
        "tests": [{"args": [2.0], "expected": 1.4142135, "tolerance": 1e-6}],
        "entry_point": "root",
    }
    path = write(tmp_path / "calls.jsonl", *[{"prompt": f"Root {n}.", **calls} for n in range(40)])
    env = th.make("humaneval", path=path, sandbox={"tier": tier, "slots": 2})
    env.reset(seed=0)
    assert env.fork().step("def root(x):\n    return x**0.5\n")[4]["success"]
    assert not env.fork().step("def root(x):\n    return 1.4\n")[4]["success"]
