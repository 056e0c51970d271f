"""The built-in policy: what its card says is so, and its recipe makes it again."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.evaluate import evaluate
from turnhalle.agents.models import ModelOptions, load_model
from turnhalle.agents.players import open_policy
from turnhalle.config import load_options
from turnhalle.envs.registry import resolve
from turnhalle.training.card import weights_digest
from turnhalle.training.prime import PrimeOptions, prime
from turnhalle.training.progress import Silent

TINY = Path(str(files("turnhalle.tiny")))
CARD = (TINY / "README.md").read_text(encoding="utf-8")


def on_the_card(env: str) -> float:
    found = re.search(rf"{env}-v0 \| (\d+) %", CARD)
    assert found is not None
    return int(found[1]) / 100


def test_the_card_is_of_these_weights() -> None:
    assert weights_digest(TINY) in CARD
    assert (TINY / "model.safetensors").stat().st_size < 4_000_000


def test_the_size_is_what_the_card_says() -> None:
    lm = load_model(ModelOptions())
    assert 300_000 <= lm.num_parameters <= 1_000_000
    assert f"{lm.num_parameters:,} parameters" in CARD
    sizes = (lm.config.hidden_size, lm.config.intermediate_size)
    assert all(size % 64 == 0 for size in sizes)


@pytest.mark.parametrize(
    ("env", "most"), [("Tools", 0.4), ("Math", 0.4), ("Pacman", 0.4), ("Coding", 0.6)]
)
def test_success_is_honest_and_can_be_improved(
    env: str, most: float, need_sandbox: Callable[..., None]
) -> None:
    if env == "Coding":
        need_sandbox()
    factory = resolve(env)
    policy = open_policy("tiny", factory, Sampling(max_new_tokens=64))
    measured = evaluate(factory, policy, 400, split="test", seed=1).success
    assert 0.15 <= on_the_card(env) <= most
    assert measured.value == pytest.approx(on_the_card(env), abs=0.10)


@pytest.mark.slow
def test_the_recipe_makes_the_file_again(tmp_path: Path, need_sandbox: Callable[..., None]) -> None:
    """Bit for bit on the CPU features and versions of the card, within 10 points elsewhere."""
    need_sandbox()
    options: Any = load_options(PrimeOptions, "tiny", {})
    result = prime(options, tmp_path / "tiny", Silent())
    here = (tmp_path / "tiny" / "README.md").read_text(encoding="utf-8")
    conditions = re.compile(r"- CPU features.*\n.*")
    if conditions.findall(here) == conditions.findall(CARD):
        assert weights_digest(tmp_path / "tiny") == weights_digest(TINY)
    for id, evaluation in result.evaluations.items():
        rate = on_the_card(id.removeprefix("turnhalle/").removesuffix("-v0"))
        assert evaluation.success.value == pytest.approx(rate, abs=0.10)
    assert torch.get_num_threads() == 1
