"""`HumanEval-v0`: HumanEval's tasks, or any file of rows in its form (arXiv 2107.03374)."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..jsonl import data_file, not_held_out
from ..tasks import Instance
from .rows import FIELDS, CodeProblem, read_rows
from .workbench import Workbench

PATH_VARIABLE = "TURNHALLE_HUMANEVAL"
"""Environment variable: the file that is read where neither path nor test_path is given."""


class HumanEval(Workbench):
    """Complete the Python function; hidden tests decide."""

    system_prompt = (
        "Complete the Python function. You may try code first: test runs it on the examples, run "
        "runs it as it is. Then answer with the whole function, in a ```python fence if you say "
        "anything else; hidden tests decide."
    )

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        test_path: str | Path | None = None,
        **options: Any,
    ) -> None:
        """Choose the rows; they are read with the first task.

        Args:
            path: A JSONL file (also .gz) of rows with prompt, entry_point and tests; they are split
                by content.
            test_path: Another, whose rows are exactly the split `test`, in order, and never drawn
                for the others.
            options: Those of `Workbench`.

        Raises:
            ConfigError: No file at all, or an option that cannot be.
        """
        if path is None and test_path is None:
            path = os.environ.get(PATH_VARIABLE)
            if path is None:
                raise ConfigError(
                    f"HumanEval needs path=..., a JSONL file of rows with {FIELDS}, or the "
                    f"environment variable {PATH_VARIABLE}"
                )
        self.path = data_file("path", path)
        self.test_path = data_file("test_path", test_path)
        super().__init__(**options)

    @cached_property
    def rows(self) -> tuple[CodeProblem, ...]:
        """The rows that are drawn: none of the held-out ones, if there are others."""
        if self.path is None:
            return self.test_rows or ()
        return not_held_out(read_rows(self.path), self.test_rows or (), itemgetter("question"))

    @cached_property
    def test_rows(self) -> tuple[CodeProblem, ...] | None:
        """The rows that are held out as the split `test`; None where they are drawn."""
        return None if self.test_path is None else read_rows(self.test_path)

    def listed(self, split: str, difficulty: int) -> Sequence[Instance] | None:
        """The held-out rows, in their order; the other splits are drawn.

        Raises:
            ConfigError: There are no other rows, and another split is asked for.
        """
        if split != "test" and self.path is None:
            raise ConfigError(
                f"only test_path was given, so there is no split {split!r}; give path=..., another "
                "file, or play the split 'test'"
            )
        if split != "test" or self.test_rows is None:
            return None
        return [dict(row) for row in self.test_rows]

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """Any row: the tasks say nothing of how hard they are."""
        return dict(self.rows[rng.randrange(len(self.rows))])

    def oracle(self) -> str:
        """The row's own solution.

        Raises:
            ConfigError: The row has none.
        """
        if not self.instance["solution"]:
            raise ConfigError(
                f"{self.instance['family']} has no canonical_solution, so there is no oracle"
            )
        return super().oracle()
