"""Code that passes some of its tests is on its way; code that passes all is right."""

from __future__ import annotations

from ..errors import ConfigError, RewardError
from .base import Fixture, Reward, Sample, Score


class TestsFraction(Reward):
    """1 where all tests pass; else their fraction times `ceiling`, which is below 1.

    Reads `info["tests_passed"]` and `info["tests_total"]`; silent where no tests were run.
    """

    name = "tests"
    __test__ = False  # pytest would take the class for a test

    def __init__(self, *, ceiling: float = 0.5) -> None:
        if not 0 <= ceiling < 1:
            raise ConfigError(f"ceiling must be from 0 to below 1, got {ceiling!r}")
        self._ceiling = ceiling

    def score(self, sample: Sample) -> Score:
        """From 0 to `ceiling`, or 1.

        Raises:
            RewardError: `info` holds counts that cannot be.
        """
        passed, total = sample.info.get("tests_passed"), sample.info.get("tests_total")
        if passed is None and total is None:
            return None
        if not (isinstance(passed, int) and isinstance(total, int) and 0 <= passed <= total != 0):
            raise RewardError(f"{self.name}: {passed!r} of {total!r} tests passed cannot be")
        return 1.0 if passed == total else self._ceiling * passed / total

    def fixtures(self) -> list[Fixture]:
        """All, none, half, and no tests."""
        return [
            Fixture.of("full", _ran(4, 4), 1.0),
            Fixture.of("zero", _ran(0, 4), 0.0),
            Fixture("zero", _ran(3, 4), 0.0, self._ceiling),
            Fixture.of("malformed", Sample("def f(:"), None),
        ]


def _ran(passed: int, total: int) -> Sample:
    return Sample("code", info={"tests_passed": passed, "tests_total": total})
