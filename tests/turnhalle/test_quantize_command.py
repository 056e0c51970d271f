"""`turnhalle quantize`, as people type it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

FEW = ["--env", "basics", "--passages", "8", "--max-new-tokens", "8"]


def write_text(path: Path) -> Path:
    path.write_text("The order of the mango was sent to the wrong street. " * 60, encoding="utf-8")
    return path


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_a_random_model_is_written_and_compared_on_a_text(
    run: Any, tmp_path: Path, make_model: Any, architecture: str
) -> None:
    text = write_text(tmp_path / "notes.txt")
    said = run(
        "quantize", make_model(architecture), "--text", text, "--budget", "0.3", "--out", "small",
        "--report", "bits", "--env", "basics", "-n", "4", "--max-new-tokens", "4",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "the 8 worst of 8" in said.out
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    skipped = config["quantization_config"]["llm_int8_skip_modules"]
    assert skipped[0] == "lm_head"
    assert len(skipped) > 1  # a random model loses something everywhere, so the budget is used
    report = (tmp_path / "bits" / "report.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in report.splitlines() if line.startswith("| ")][1:]
    names = [row[0].strip() for row in rows]
    assert names == [
        "16 bits", "int8", "dynamic 4-bit", "NF4", "FP4", "3 bits, simulated", "2 bits, simulated",
        "ternary, simulated",
    ]  # fmt: skip
    kl = {name: float(row[3]) for name, row in zip(names, rows, strict=True)}
    size = {name: float(row[1]) for name, row in zip(names, rows, strict=True)}
    assert kl["dynamic 4-bit"] < kl["NF4"]
    assert kl["NF4"] < kl["3 bits, simulated"] < kl["2 bits, simulated"]
    assert size["16 bits"] > size["int8"] > size["NF4"] == size["FP4"]
    assert size["dynamic 4-bit"] > size["NF4"]
    assert size["NF4"] > size["3 bits, simulated"] > size["2 bits, simulated"]
    assert size["dynamic 4-bit"] <= 1.3 * size["NF4"] + 0.01
    assert all(re.fullmatch(r" \d+ % \[\d+, \d+\] ", row[4]) for row in rows)
    assert [bool(row[6].strip()) for row in rows] == 5 * [True] + 3 * [False]
    svg = (tmp_path / "bits" / "report.svg").read_text(encoding="utf-8")
    assert all(name in svg for name in ("dynamic 4-bit", "ternary, simulated"))


def test_train_and_bench_take_what_is_written(run: Any, tmp_path: Path) -> None:
    assert run("quantize", "tiny", "--format", "fp4", "--out", "small", *FEW).code == 0
    said = run("bench", "--env", "basics", "--policy", "tiny", "--policy", "small", "-n", "10")
    assert said.code == 0, said.err
    said = run(
        "train", "--env", "basics", "--model", "small", "--steps", "1", "--out", "run",
        "--set", "rollout.tasks=4", "--set", "rollout.group_size=4", "--set", "evaluate.tasks=10",
        "--set", "learn.warmup_steps=0",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "small (fp4, LoRA" in said.out
    assert run("bench", "--env", "basics", "--policy", "run", "-n", "4").code == 0


def test_chats_are_a_text_too_and_only_the_assistant_counts(run: Any, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "there"}]
    line = json.dumps({"messages": chat})
    (tmp_path / "chats.jsonl").write_text(f"{line}\n{line}\n", encoding="utf-8")
    said = run("quantize", "tiny", "--text", "chats.jsonl", "--format", "nf4", "--out", "small")
    assert said.code == 0, said.err
    tokens = re.search(r"on (\d+) tokens", said.out)
    assert tokens is not None
    from turnhalle.agents.chat import ChatOptions, load_chat

    assert int(tokens[1]) == len(load_chat("tiny", ChatOptions()).write("there", []))


def test_files_that_are_none_of_what_they_should_be_are_named(
    run: Any, tmp_path: Path, make_model: Any
) -> None:
    text = write_text(tmp_path / "notes.txt")
    without, cut = (shutil.copytree(make_model(), tmp_path / name) for name in ("without", "cut"))
    (without / "model.safetensors").unlink()
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[:5000])
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)) * 20)
    for model, file, said in (
        (without, text, f"cannot read the weights of {without}: "),
        (cut, text, f"cannot read the weights of {cut}: "),
        (make_model(), "noise.txt", "noise.txt is no text in UTF-8: byte 128 is none"),
    ):
        got = run("quantize", model, "--text", file, "--out", "new")
        assert got.code == 2
        assert said in got.err
        assert not (tmp_path / "new").exists()


def test_a_text_of_one_line_is_enough(run: Any, tmp_path: Path, make_model: Any) -> None:
    (tmp_path / "line.txt").write_text("The mango went to the wrong street.\n")
    said = run("quantize", make_model(), "--text", "line.txt", "--format", "nf4", "--out", "small")
    assert said.code == 0, said.err
    assert "on 17 tokens" in said.out  # the second half, but for its first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to do: give --out to write the model, --report to compare"),
        (["--out", "x", "--format", "fp4", "--budget", "0.2"], "no effect with --format fp4"),
        (["--out", "full"], "full exists and is not empty"),
        (["--out", "full/thing/new"], "cannot write to full/thing/new (File exists: full/thing)"),
        (["--out", "new", "--text", "none.txt"], "no file none.txt"),
        (["--out", "new", "--text", "short.txt"], "less than two passages"),
        (["--out", "new", "--env", "tolls"], "did you mean 'tools'"),
        (["--out", "new", "--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_mistakes_are_one_clear_message(
    run: Any, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").touch()
    (tmp_path / "short.txt").write_text("Hi.")
    got = run("quantize", "tiny", *arguments)
    assert got.code == 2
    assert said in got.err
    assert not (tmp_path / "new").exists()
