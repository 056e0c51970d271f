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
from safetensors.torch import load_file

from turnhalle.agents.store import RunStore

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
PATIENCE_S = 240


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
        assert found["moved"] > 1e-4
        assert found["scores"] < 1e-4
        assert found["dropped"][0] == found["dropped"][1]
    assert compared[0][case]["metrics"] == compared[1][case]["metrics"]


def test_episodes_without_numbers_are_left_out_by_all_ranks(compared: list[dict[str, Any]]) -> None:
    assert compared[0]["not-finite"]["dropped"] == [[2, 5], [2, 5]]
    assert compared[1]["not-finite-sharded"]["dropped"] == [[2, 5], [2, 5]]


def test_four_bit_weights_are_not_sharded(compared: list[dict[str, Any]]) -> None:
    assert "FSDP2 cannot cut 4-bit weights" in compared[0]["refused"]
