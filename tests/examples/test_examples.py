"""The examples run, pass the audit, and are as short as they claim."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import turnhalle as th
from turnhalle.envs.audit.core import Subject, audit
from turnhalle.envs.registry import resolve
from turnhalle.envs.rewards.check import check_reward

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """The module of an environment of the examples."""
    return sys.modules[resolve(str(EXAMPLES / name)).cls.__module__]


@pytest.mark.parametrize("name", ["custom_env.py:Paint", "custom_reward.py:Thanks"])
def test_the_environments_of_the_examples_pass_the_audit(name: str) -> None:
    findings = list(audit(Subject(resolve(str(EXAMPLES / name)), is_quick=True)))
    assert [finding for finding in findings if not finding.is_ok] == []


def test_the_custom_environment_takes_under_forty_lines() -> None:
    assert len((EXAMPLES / "custom_env.py").read_text("utf-8").splitlines()) < 40


def test_the_custom_reward_passes_its_check_and_lands_in_the_parts() -> None:
    module = load("custom_reward.py:Thanks")
    assert check_reward(module.personal) == []
    env = module.Thanks()
    env.reset(seed=0)
    _, reward, _, _, info = env.step(f"Thank you for it, {env.instance['guest']}!")
    assert info["parts"] == {"personal": 0.8, "length": 0.2}
    assert reward == pytest.approx(1.0)
    env.reset(seed=0)
    _, _, _, _, info = env.step("Ada Bo Cleo Dan Eva")
    assert not info["success"]
    assert info["parts"] == {"personal": 0.0, "length": 0.2}


def test_the_registered_example_is_found_by_its_id() -> None:
    load("custom_env.py:Paint")
    assert type(th.make("examples/Paint-v0")).__name__ == "Paint"
