"""The audit passes what is sound and catches planted faults."""

from __future__ import annotations

import random
from typing import Any

import pytest

import turnhalle as th
from turnhalle.envs.audit import CHECKS, audit
from turnhalle.envs.env import TextEnv
from turnhalle.envs.registry import EnvFactory, resolve


class Sound(th.TextEnv):
    """Say the number."""

    max_turns = 3

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(10**6)}

    def start(self) -> str:
        return f"Number {self.instance['n']}"

    def respond(self, action: str) -> th.Reply:
        if action == str(self.instance["n"]):
            return th.End("yes", success=True, reward=1.0)
        return th.Reply("no")

    def oracle(self) -> str:
        return str(self.instance["n"])


class IgnoresItsSeed(Sound):
    """Asks the clock."""

    def respond(self, action: str) -> th.Reply:
        return th.Reply(str(random.SystemRandom().random()))


class SharesState(Sound):
    """All environments count together."""

    count = 0

    def respond(self, action: str) -> th.Reply:
        type(self).count += 1
        return th.Reply(f"turn {type(self).count % 7}")


class ForksBadly(Sound):
    """Its state leaves something out."""

    def start(self) -> str:
        self.said = 0
        return super().start()  # type: ignore[return-value]

    def respond(self, action: str) -> th.Reply:
        self.said += 1
        return th.Reply(str(self.said))

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        self.said = 0


class Unsolvable(Sound):
    """Its oracle is wrong."""

    def oracle(self) -> str:
        return "no idea"


class PaysTooLittle(Sound):
    """Its oracle earns less than declared."""

    reward_range = (0.0, 2.0)


class PaysNothing(Sound):
    """Pays the null policy."""

    def respond(self, action: str) -> th.Reply:
        return th.Reply("here you are", reward=0.1)


class WinsForNothing(Sound):
    """Lets the null policy win."""

    def respond(self, action: str) -> th.Reply:
        return th.End("well done", success=True, reward=1.0)


class TooSmall(Sound):
    """Has three tasks."""

    def draw(self, rng: random.Random, difficulty: int) -> dict[str, Any]:
        return {"n": rng.randrange(3)}


def failed(factory: EnvFactory) -> set[str]:
    return {finding.check for finding in audit(factory) if not finding.is_ok}


@pytest.mark.parametrize("id", sorted(th.registered()))
def test_every_registered_environment_passes(id: str) -> None:
    assert not [f for f in audit(resolve(id)) if not f.is_ok]


def test_a_sound_environment_passes_every_check() -> None:
    findings = list(audit(EnvFactory(Sound)))
    assert [finding.check for finding in findings] == list(CHECKS)
    assert all(finding.is_ok for finding in findings), findings


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (IgnoresItsSeed, "determinism"),
        (SharesState, "determinism"),
        (ForksBadly, "fork"),
        (Unsolvable, "oracle"),
        (PaysTooLittle, "oracle"),
        (PaysNothing, "null policy"),
        (WinsForNothing, "null policy"),
        (TooSmall, "splits"),
    ],
)
def test_planted_faults_are_caught(cls: type[TextEnv], check: str) -> None:
    assert check in failed(EnvFactory(cls))


def test_an_environment_without_an_oracle_fails_that_check_only() -> None:
    class NoOracle(Sound):
        """Knows no answer."""

        oracle = TextEnv.oracle

    assert failed(EnvFactory(NoOracle)) == {"oracle"}
