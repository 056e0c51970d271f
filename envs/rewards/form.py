"""The action has the form that was asked for."""

from __future__ import annotations

import re

from ..errors import ConfigError
from .base import Fixture, Reward, Sample, Score


class Form(Reward):
    """1 where the whole action matches a regular expression, else 0.

    Args:
        pattern: Python's `re`, matched against all of the action, `.` being any character.
        example: A text that matches: proof that the pattern is what was meant.
        counterexample: A text that does not.
        max_length: Longer actions have not the form; bounds the work of the matching, which a
            pattern with nested repetition can still make long.

    Raises:
        ConfigError: The pattern is none, or an example contradicts it.
    """

    name = "form"

    def __init__(
        self, pattern: str, *, example: str, counterexample: str = "", max_length: int = 20_000
    ) -> None:
        try:
            self._pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ConfigError(f"{pattern!r} is no regular expression: {error}") from error
        self._example, self._counterexample = example, counterexample
        self._max_length = max_length
        for text, is_match in ((example, True), (counterexample, False)):
            if bool(self.score(Sample(text))) is not is_match:
                verb = "does not match" if is_match else "matches"
                raise ConfigError(
                    f"the {'' if is_match else 'counter'}example {text!r} {verb} {pattern!r}"
                )

    def score(self, sample: Sample) -> Score:
        """1 or 0."""
        if len(sample.action) > self._max_length:
            return 0.0
        return float(self._pattern.fullmatch(sample.action) is not None)

    def fixtures(self) -> list[Fixture]:
        """The examples, and an action that is too long."""
        return [
            Fixture.of("full", Sample(self._example), 1.0),
            Fixture.of("zero", Sample(self._counterexample), 0.0),
            Fixture.of("malformed", Sample("\0" * (self._max_length + 1)), 0.0),
        ]
