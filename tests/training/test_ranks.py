"""More than one process: the numbers of one, nobody waits for the dead, and runs go on with any."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from turnhalle.agents.ranks import World, deal
from turnhalle.agents.store import RunStore
from turnhalle.envs.errors import ConfigError
from turnhalle.training.options import TrainOptions
from turnhalle.training.progress import Silent
from turnhalle.training.trainer import Trainer

WORKER = Path(__file__).parent / "rank_worker.py"
CASES = [
    "full",
    "lora",
    "sharded-base",
    "nf4",
    "critic",
    "one-episode",
    "small-parts",
    "not-finite",
    "not-finite-sharded",
]
PATIENCE_S = 600
"""Far more than it takes (20 s): the machine may be busy."""


def start(code: list[str], ranks: int = 2, **environment: str) -> list[subprocess.Popen[str]]:
    """Processes as torchrun starts them, but with nobody to end them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    return [
        subprocess.Popen(
            [sys.executable, *code],
            env=os.environ | shared | {"RANK": str(rank), "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]


def outputs(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What they say until they end; none is left behind."""
    try:
        return [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def compared(make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Updates of two ranks beside updates alone, as each rank found them."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = start([str(WORKER), str(make_model()), str(folder)])
    said = outputs(processes)
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"rank-{r}.json").read_text("utf-8")) for r in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_loss_and_the_weights_of_one(
    compared: list[dict[str, Any]], case: str
) -> None:
    for found in (of_rank[case] for of_rank in compared):
        alone, joint = found["metrics"]
        assert joint == pytest.approx(alone, rel=1e-5, abs=1e-5)
        assert found["weights"] < 1e-5
        assert found["moved"] > 5e-5
        assert found["scores"] < 1e-4
        assert found["dropped"][0] == found["dropped"][1]
    assert compared[0][case]["metrics"] == compared[1][case]["metrics"]


def test_episodes_without_numbers_are_left_out_by_all_ranks(compared: list[dict[str, Any]]) -> None:
    assert compared[0]["not-finite"]["dropped"] == [[2, 5], [2, 5]]
    assert compared[1]["not-finite-sharded"]["dropped"] == [[2, 5], [2, 5]]


def test_four_bit_weights_are_not_sharded(compared: list[dict[str, Any]]) -> None:
    assert "FSDP2 cannot cut 4-bit weights" in compared[0]["refused"]


def test_ranks_share_work_and_hear_of_errors(compared: list[dict[str, Any]]) -> None:
    first, second = (found["talk"] for found in compared)
    assert first["spread"] == [[0, 0], [1, 1], [2, 0], [3, 1], [4, 0]]
    assert first["first"] == "rank 0"
    assert first["exchange"] == [0, 1]
    assert first["sum"] == [[3.0, 3.0], [0.0, 2.0, 4.0]]
    assert first["error"] == "ConfigError: wrong"
    assert first["unsendable"] == "RankError: rank 1 failed: UnsendableError: cannot be sent"
    assert second.pop("unsendable") == "UnsendableError: cannot be sent"
    assert second == {name: first[name] for name in second}


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(1, 5))
def test_parts_are_dealt_out_evenly_and_none_is_lost(costs: list[int], size: int) -> None:
    hands = deal(costs, size)
    assert sorted(i for hand in hands for i in hand) == list(range(len(costs)))
    sums = [sum(costs[i] for i in hand) for hand in hands]
    assert max(sums) - min(sums) <= max(costs, default=0)
    assert deal(costs, 1) == [list(range(len(costs)))]


def test_vllm_is_refused_before_anybody_talks(tmp_path: Path) -> None:
    options = TrainOptions.model_validate({"engine": {"name": "vllm"}})
    with pytest.raises(ConfigError, match="leave torchrun out"):
        Trainer(options, tmp_path / "run", Silent(), world=World(0, 2))


def test_sharded_layers_are_not_compiled(tmp_path: Path) -> None:
    options = TrainOptions.model_validate({"model": {"compile": True}, "learn": {"shard": True}})
    with pytest.raises(ConfigError, match=r"model\.compile was never tried on such layers"):
        Trainer(options, tmp_path / "run", Silent(), world=World(0, 2))


SETS = {
    "rollout.tasks": 5,
    "rollout.group_size": 4,
    "rollout.max_new_tokens": 24,
    "evaluate.tasks": 31,
    "evaluate.every": 0,
    "model.device": "cpu",
    "model.precision": "fp32",
    "model.lora_rank": 4,
    "checkpoint_every": 1,
    "steps": 2,
}


def train(folder: Path, **sets: Any) -> list[str]:
    """The arguments of a run, after `python`."""
    given = [f"--set={key}={value}" for key, value in (SETS | sets).items()]
    return ["-m", "turnhalle", "train", "--env", "math", "--out", str(folder), *given]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return
    raise AssertionError(f"{text!r} is never said:\n{said}")


def left_behind(folder: Path) -> tuple[dict[str, Any], list[Any], dict[str, torch.Tensor]]:
    """Metrics (not those of the clock), what was said, the adapter."""
    store = RunStore(folder, read_only=True)
    names = [n for n in store.metric_names() if not n.startswith("time/") and n != "parity"]
    metrics = {name: dict(store.metrics(name)) for name in names}
    episodes = [store.episode(i) for phase in ("train", "eval") for i in store.episode_ids(phase)]
    actions = [[turn.action for turn in episode.turns] for episode in episodes]
    store.close()
    return metrics, actions, load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_same_run(folder: Path, other: Path) -> None:
    metrics, actions, adapter = left_behind(folder)
    others, other_actions, other_adapter = left_behind(other)
    assert metrics.keys() == others.keys()
    # Parts that are dealt out to ranks share less.
    for name in metrics.keys() - {"tokens_saved"}:
        assert metrics[name] == pytest.approx(others[name], rel=1e-4, abs=1e-5), name
    assert actions == other_actions
    for name, tensor in adapter.items():
        assert torch.allclose(tensor, other_adapter[name], rtol=0, atol=1e-4), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    subprocess.run([sys.executable, *train(folder)], check=True, capture_output=True)
    return folder


def test_torchrun_trains_the_run_of_one_process_on_layers_apart(
    alone: Path, tmp_path: Path
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, *train(tmp_path / "run", **{"learn.shard": "true"})],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 2/2") == 1
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_another_number_of_processes(
    alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    processes = start(train(folder))
    wait_for(processes[0], "step 1/2")
    processes[1].send_signal(signal.SIGINT)  # the others hear of it
    said = outputs(processes)
    assert [process.returncode for process in processes] == [130, 130], "\n".join(said)
    assert f"--resume {folder}" in said[0]
    resume = ["-m", "turnhalle", "train", "--resume", str(folder)]
    subprocess.run([sys.executable, *resume], check=True, capture_output=True)
    assert_same_run(folder, alone)


def test_a_killed_rank_ends_the_others_at_once(tmp_path: Path) -> None:
    processes = start(train(tmp_path / "run", steps=1000))
    wait_for(processes[0], "step 1/1000")
    processes[1].kill()
    killed = time.monotonic()
    said = outputs(processes)[0]
    assert time.monotonic() - killed < 120
    assert processes[0].returncode == 2
    assert "error: one of the 2 processes of the run ended" in said
