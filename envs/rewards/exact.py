"""The action is the gold answer, to the letter."""

from __future__ import annotations

from .base import Fixture, Reward, Sample, Score


class Exact(Reward):
    """1 where action and gold are the same text, but for space around it; silent without a gold."""

    name = "exact"

    def __init__(self, *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case

    def score(self, sample: Sample) -> Score:
        """1 or 0."""
        if sample.gold is None:
            return None
        return float(self._form(sample.action) == self._form(sample.gold))

    def fixtures(self) -> list[Fixture]:
        """Right, a digit too many, nothing, and no gold."""
        return [
            Fixture.of("full", Sample(" 42\n", gold="42"), 1.0),
            Fixture.of("zero", Sample("420", gold="42"), 0.0),
            Fixture.of("malformed", Sample("", gold="42"), 0.0),
            Fixture.of("malformed", Sample("42"), None),
        ]

    def _form(self, text: str) -> str:
        stripped = text.strip()
        return stripped.casefold() if self._ignore_case else stripped
