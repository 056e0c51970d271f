"""`Gsm8k-v0`: rows of a file or data set, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.errors import ConfigError, DataError, UnknownNameError
from turnhalle.envs.math.datasets import load_dataset, read_jsonl
from turnhalle.envs.math.grading import RULES, is_right
from turnhalle.envs.tasks import SPLITS, Task

MONEY = RULES["money"]


def mutations(gold: str) -> set[str]:
    number = int(gold.replace(",", ""))
    wrong = {
        str(-number), f"{gold}0", f"{gold}1", gold[:-1], str(number + 1), str(number - 1),
        f"9{gold}", f"{gold} {number + 1}", f"{gold}, {number + 1}", f"{gold} or {number + 1}", "",
        f"the answer is {gold}", f"{gold}.5", f"{gold}/7", f"{gold} pears", f"x{gold}",
    }  # fmt: skip
    if number == 0:
        wrong -= {"0", f"{gold}0", "-0"}
    return wrong


def test_every_gold_scores_and_no_mutation_does(gsm8k_rows: Path) -> None:
    rows = read_jsonl(gsm8k_rows, "money")
    if gsm8k_rows.is_relative_to("/work/shared"):
        assert len(rows) == 1319
    for _, problem in rows:
        gold, work = problem["answer"], problem["work"]
        assert "<<" not in work
        assert is_right(f"{work}\n#### {gold}", gold, MONEY)
        assert is_right(f"\\boxed{{${gold}}}", gold, MONEY)
        for wrong in mutations(gold):
            assert not is_right(f"#### {wrong}", gold, MONEY), (wrong, gold)
            assert not is_right(f"{work}\n#### {gold}\n#### {wrong}", gold, MONEY), (wrong, gold)


def test_wrong_answers_earn_no_more_than_the_floor() -> None:
    env = th.make("gsm8k")
    for task in range(100):
        env.reset(options={"task": task})
        for wrong in sorted(mutations(env.instance["answer"])):
            env.reset(options={"task": task})
            _, reward, _, _, info = env.step(f"#### {wrong}")
            assert (reward, info["success"]) == (env.reward_floor, False)


def test_splits_are_by_content_whatever_the_order_of_rows(tmp_path: Path, gsm8k_rows: Path) -> None:
    lines = gsm8k_rows.read_text(encoding="utf-8").splitlines()
    turned = tmp_path / "turned.jsonl"
    turned.write_text("\n".join(reversed(lines)) + "\n\n", encoding="utf-8")
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    for path in (gsm8k_rows, turned):
        env = th.make("gsm8k", path=path)
        for split in SPLITS:
            for task in range(200):
                seen[split].add(env.reset(options={"split": split, "task": task})[0])
    assert not seen["train"] & (seen["eval"] | seen["test"])
    assert not seen["eval"] & seen["test"]


def test_difficulty_bounds_the_calculations(tmp_path: Path) -> None:
    path = rows_file(
        tmp_path, [row(f"{n}?", "<<1>>" * (1 + n % 5) + f"\n#### {n}") for n in range(99)]
    )
    env = th.make("gsm8k", path=path, difficulty=2)
    assert {int(env.reset(seed=s)[0][:-1]) % 5 for s in range(100)} == {0, 1}
    hard = rows_file(tmp_path, [row("1?", "<<1>><<2>><<3>>\n#### 1")], "hard.jsonl")
    with pytest.raises(ConfigError, match="at most 2 calculations, the shortest takes 3"):
        th.make("gsm8k", path=hard, difficulty=2).reset(seed=0)


def row(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


def rows_file(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"question": "1?"}', r"rows.jsonl, line 2: no text in field 'answer' \(has 'question'\)"),
        ('{"question": 1, "answer": "#### 1"}', "line 2: no text in field 'question'"),
        ("[1]", r"line 2: no text in field 'question' \(has list\)"),
        ("{", "line 2: no JSON"),
        ('{"question": "1?", "answer": "#### one"}', "line 2: field 'answer' must end with ####"),
        ('{"question": "1?", "answer": ""}', "line 2: field 'answer' must end with ####"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row("1?", "#### 1")) + "\n" + text + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=says):
        th.make("gsm8k", path=path).reset(seed=0)


def test_without_rows_the_error_says_how_to_give_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNHALLE_GSM8K")
    with pytest.raises(ConfigError, match="TURNHALLE_GSM8K"):
        th.make("gsm8k")
    with pytest.raises(ConfigError, match="not both"):
        th.make("gsm8k", path="a", dataset="b")
    with pytest.raises(ConfigError, match=r"no file 'nowhere\.jsonl'"):
        th.make("gsm8k", path="nowhere.jsonl")
    with pytest.raises(ConfigError, match="subset='main' belongs to dataset"):
        th.make("gsm8k", path=rows_file(tmp_path, []), subset="main")
    with pytest.raises(ConfigError, match="holds no rows"):
        th.make("gsm8k", path=rows_file(tmp_path, [])).reset(seed=0)


def test_other_rules_read_other_golds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golds = ["\\frac{\\sqrt{2}}{2}", "x^2-1", "sin(x)"]
    path = rows_file(tmp_path, [row("1?", f"So it is $\\boxed{{{gold}}}$.") for gold in golds])
    with pytest.raises(DataError, match="what rule 'money' can read"):
        th.make("gsm8k", path=path).reset(seed=0)
    env = th.make("gsm8k", path=path, rule="symbolic")
    env.begin(Task(env.id, "train", 0, 20, row("1?", golds[0])))
    assert env.step("\\boxed{1/\\sqrt{2}}")[4]["success"]
    with pytest.raises(UnknownNameError, match="did you mean 'symbolic'"):
        th.make("gsm8k", path=path, rule="symbolc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"turnhalle\[math\]"):
        th.make("gsm8k", path=path, rule="symbolic")


def test_golds_may_carry_what_the_rule_permits(tmp_path: Path) -> None:
    env = th.make("gsm8k", path=rows_file(tmp_path, [row("1?", "#### $1,200")]))
    for answer, success in (("1200", True), ("$1200", True), ("1201", False), ("$1,200", True)):
        env.reset(seed=0)
        assert env.step(f"#### {answer}")[4]["success"] == success


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = rows_file(tmp_path, [row("1?", "#### 1")])
    assert len(read_jsonl(path, "money")) == 1
    rows_file(tmp_path, [row("1?", "#### 1"), row("2?", "#### 2")])
    assert len(read_jsonl(path, "money")) == 2
    path.unlink()
    with pytest.raises(ConfigError, match="no file"):
        read_jsonl(path, "money")


def test_a_hub_dataset_is_read_with_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, subset: str | None) -> dict[str, list[dict[str, str]]]:
        asked.append((name, subset))
        if name == "me/unreachable":
            raise ConnectionError("no route")
        return {part: [row(f"{part} {n}?", f"#### {n}") for n in range(50)] for part in ("a", "b")}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    env = th.make("gsm8k", dataset="me/rows", subset="main")
    assert {env.reset(seed=s)[0][0] for s in range(40)} == {"a", "b"}
    assert asked == [("me/rows", "main")]
    with pytest.raises(ConfigError, match=r"cannot load dataset='me/unreachable'.*no route.*path="):
        th.make("gsm8k", dataset="me/unreachable").reset(seed=0)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="pip install datasets"):
        th.make("gsm8k", dataset="me/other").reset(seed=0)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_package_datasets_itself_reads_a_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    for part, count in (("train", 200), ("test", 30)):
        rows = [row(f"{part} {n}?", f"<<1+1=2>> so #### {n}") for n in range(count)]
        if kind == "jsonl":
            rows_file(folder, rows, f"{part}.jsonl")
        else:
            datasets.Dataset.from_list(rows).to_parquet(folder / f"{part}.parquet")
    env = th.make("gsm8k", dataset=str(folder))
    assert env.reset(options={"split": "test", "task": 31})[0] == "test 1?"
    assert env.reset(seed=0)[0].startswith("train ")
    assert env.step(env.oracle())[4]["success"]

    (folder / f"train.{kind}").unlink()
    (folder / f"test.{kind}").unlink()
    rows_file(folder, [{"question": "2?", "solution": "#### 2"}], "train.jsonl")
    load_dataset.cache_clear()
    with pytest.raises(DataError, match=r"train, row 0: no text in field 'answer' \(has 'quest"):
        th.make("gsm8k", dataset=str(folder)).reset(seed=0)
    with pytest.raises(ConfigError, match=r"cannot load dataset='.*nowhere'.*path="):
        th.make("gsm8k", dataset=str(tmp_path / "nowhere")).reset(seed=0)


def test_the_test_file_is_exactly_the_test_split(tmp_path: Path) -> None:
    shared = [row(f"test {n}?", f"#### {n}") for n in range(40)]
    train = rows_file(tmp_path, shared + [row(f"train {n}?", f"#### {n}") for n in range(300)])
    test = rows_file(tmp_path, shared, "test.jsonl")
    env = th.make("gsm8k", path=train, test_path=test)
    played = [env.reset(options={"split": "test", "task": n})[0] for n in range(41)]
    assert played == [f"test {n % 40}?" for n in range(41)]
    for split in ("train", "eval"):
        for task in range(200):
            question = env.reset(options={"split": split, "task": task})[0]
            assert question.startswith("train")
    with pytest.raises(ConfigError, match="test_path belongs to path"):
        th.make("gsm8k", dataset="me/rows", test_path=test)
    with pytest.raises(ConfigError, match="every training row is a test row"):
        th.make("gsm8k", path=test, test_path=test).reset(seed=0)


def test_the_test_part_of_a_dataset_is_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, subset: str | None) -> dict[str, list[dict[str, str]]]:
        parts = ("train", "test")
        return {part: [row(f"{part} {n}?", f"#### {n}") for n in range(90)] for part in parts}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    env = th.make("gsm8k", dataset="me/parts")
    assert env.reset(seed=7, options={"split": "test"})[0] == "test 7?"
    assert all(env.reset(seed=s)[0].startswith("train") for s in range(50))


def test_the_test_file_may_be_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = rows_file(tmp_path, [row("held out?", "#### 1")], "test.jsonl")
    monkeypatch.setenv("TURNHALLE_GSM8K_TEST", str(test))
    assert th.make("gsm8k").reset(options={"split": "test", "task": 5})[0] == "held out?"
