"""What the kernels take of a GPU, compiled ahead of time in a process without the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from turnhalle.kernels.resources import SHARED_BYTES

SNAPSHOT = Path(__file__).with_name("resources.json")
SPILLING = """
import json
from turnhalle.kernels import logprob_triton
from turnhalle.kernels.resources import measure, variants
# The whole tile's exponentials at once, stored without the tensor memory accelerator.
logprob_triton.TILES[90] = logprob_triton.TILES[90]._replace(use_tma=False, parts=1)
print(json.dumps(measure(next(variants(90)), 90)._asdict()))
"""


def python(*arguments: str) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_DEFAULT_FP_FUSION": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout


def check(kernels: dict[str, dict[str, int]]) -> None:
    """No spills, everything fits, matrix products on the tensor cores, bulk loads on Hopper."""
    for name, resources in kernels.items():
        assert resources["spill_bytes"] == 0, name
        assert resources["registers"] <= 255, name
        assert resources["shared_bytes"] <= SHARED_BYTES[int(name[-2:])], name
    products = {name: r for name, r in kernels.items() if "logit_kernel" in name}
    assert {name[-2:] for name in products} == {"80", "90"}
    for name, resources in products.items():
        assert resources["tensor_core"] > 0, name
        assert (resources["bulk_loads"] > 0) == name.endswith("90"), name


def test_kernels_spill_nothing_and_the_snapshot_is_what_the_compiler_says() -> None:
    """`python -m turnhalle.kernels.resources > tests/kernels/resources.json` shows a change."""
    measured = json.loads(python("-m", "turnhalle.kernels.resources"))
    check(measured["kernels"])
    snapshot = json.loads(SNAPSHOT.read_text())
    assert measured["kernels"].keys() == snapshot["kernels"].keys()
    if measured["triton"] == snapshot["triton"]:  # another compiler has other numbers
        assert measured == snapshot


def test_a_planted_spill_is_seen() -> None:
    resources = json.loads(python("-c", SPILLING))
    assert resources["spill_bytes"] > 0
    with pytest.raises(AssertionError, match="logit_kernel sm_90"):
        check({"logit_kernel sm_90": resources})


def test_what_the_hosts_launch_compiles_once_for_any_number_of_tokens() -> None:
    dry = json.loads(python(str(SNAPSHOT.with_name("dry_launch.py"))))
    assert dry["launched"] == [
        "backward_kernel",
        "dequantize_kernel",
        "forward_kernel",
        "gradient_kernel",
        "logit_kernel",
        "rope_kernel",
        "target_kernel",
    ]
    # With and without gradients, each a first and a second run.
    assert dry["first"] == dry["after"] == 4
