"""Passing is worth something, failing costs something: the classic reward of code."""

from __future__ import annotations

from ..rewards.base import Fixture, Reward, Sample, Score


class Passed(Reward):
    """1 where all hidden tests pass, else -1. Reads `info["passed"]`; silent without it."""

    name = "tests"
    range = (-1.0, 1.0)

    def score(self, sample: Sample) -> Score:
        """1 or -1."""
        if "passed" not in sample.info:
            return None
        return 1.0 if sample.info["passed"] is True else -1.0

    def fixtures(self) -> list[Fixture]:
        """Passed, failed, something odd, and nobody knows."""
        return [
            Fixture.of("full", Sample("code", info={"passed": True}), 1.0),
            Fixture.of("zero", Sample("code", info={"passed": False}), -1.0),
            Fixture.of("malformed", Sample("", info={"passed": "True"}), -1.0),
            Fixture.of("malformed", Sample("code"), None),
        ]
