"""`Coding-v0`: procedural tasks of 25 families, from one-liners to dynamic programming."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ..errors import EnvError, chosen
from ..tasks import Instance
from .families import FAMILIES, LEVELS
from .problem import TooFewTestsError, finish
from .workbench import Workbench

HARDEST = 6
"""Beyond it numbers grow no more: solutions would be too slow, and tests all alike."""
_MAX_DRAFTS = 20


class Coding(Workbench):
    """Write the Python code that is asked for; hidden tests decide."""

    # Said again, or the docstring above would take its place.
    system_prompt = Workbench.system_prompt

    def __init__(self, *, families: Sequence[str] | None = None, **options: Any) -> None:
        """Choose families; None draws, at difficulty d, those of level d and below.

        Raises:
            UnknownNameError: No such family.
            ConfigError: No family at all, or an option that cannot be.
        """
        self.families = chosen("coding family", families, FAMILIES)
        super().__init__(**options)

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A task of a random family."""
        names = self.families or [
            name for level, found in LEVELS.items() if level <= difficulty for name in found
        ]
        family = names[rng.randrange(len(names))]
        for _ in range(_MAX_DRAFTS):
            with suppress(TooFewTestsError):
                return dict(finish(family, FAMILIES[family](rng, min(difficulty, HARDEST))))
        raise EnvError(f"{_MAX_DRAFTS} drafts of {family} had too few different tests")
