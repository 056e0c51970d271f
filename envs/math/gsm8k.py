"""`Gsm8k-v0`: grade-school word problems from a file or a dataset."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core import Reply
from ..env import TextEnv
from ..errors import ConfigError, unknown_name
from ..jsonl import data_file, not_held_out
from ..tasks import Instance
from .datasets import Rows, load_dataset, read_jsonl
from .grading import RULES, is_right
from .problems import RIGHT, WRONG
from .worker import require_sympy

PATH_VARIABLE = "TURNHALLE_GSM8K"
"""Environment variable: the JSONL file that is read where neither path nor dataset is given."""
TEST_PATH_VARIABLE = "TURNHALLE_GSM8K_TEST"
"""Environment variable: the test file that goes with the file of `PATH_VARIABLE`."""


class Gsm8k(TextEnv):
    """A word problem of a data set, and its exact answer.

    At difficulty d the reference solution takes at most d calculations.
    """

    system_prompt = "Solve the problem step by step; end with #### and the answer alone."
    max_turns = 1
    difficulty = 20  # every row of GSM8K: its longest solution takes nine

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        test_path: str | Path | None = None,
        dataset: str | None = None,
        subset: str | None = None,
        rule: str = "money",
        **kwargs: Any,
    ) -> None:
        """Choose the rows; they are read with the first task.

        Args:
            path: A JSONL file with the fields `question` and `answer`.
            test_path: Another, whose rows are exactly the split `test`, in order, and never drawn
                for training; without it, `test` is a tenth of `path`.
            dataset: The name of a Hugging Face dataset, instead; its part `test` is the split.
            subset: Its configuration; `main` for `openai/gsm8k`.
            rule: How answers are read, a name in `grading.RULES`; GSM8K's are whole numbers.
            kwargs: Options of every environment.

        Raises:
            ConfigError: Neither path nor dataset, both, no such file, or sympy is missing.
            UnknownNameError: No such rule.
        """
        if path is None and dataset is None:
            path = os.environ.get(PATH_VARIABLE)
            test_path = test_path or os.environ.get(TEST_PATH_VARIABLE)
        if (path is None) == (dataset is None):
            raise ConfigError(
                "Gsm8k needs its rows: path='test.jsonl' (fields question and answer), or "
                "dataset='openai/gsm8k', subset='main', not both; without either, the file that "
                f"the environment variable {PATH_VARIABLE} names"
            )
        if subset is not None and dataset is None:
            raise ConfigError(f"subset={subset!r} belongs to dataset, which is not given")
        if test_path is not None and path is None:
            raise ConfigError("test_path belongs to path; a dataset has its own part 'test'")
        if rule not in RULES:
            raise unknown_name("grading rule", rule, RULES)
        if RULES[rule].kind == "symbolic":
            require_sympy()
        self.rule = rule
        self.path = data_file("path", path)
        self.test_path = data_file("test_path", test_path)
        self.dataset, self.subset = dataset, subset
        self._easy: dict[int, list[Instance]] = {}
        super().__init__(**kwargs)

    @cached_property
    def rows(self) -> Rows:
        """The rows that are drawn, whatever their difficulty: none of the held-out ones."""
        if self.path is not None:
            rows = read_jsonl(self.path, self.rule)
        else:
            parts = load_dataset(str(self.dataset), self.subset, self.rule)
            held = self.test_rows is not None
            rows = tuple(r for p, part in parts.items() if p != "test" or not held for r in part)
        return not_held_out(rows, self.test_rows or (), lambda row: row[1]["question"])

    @cached_property
    def test_rows(self) -> Rows | None:
        """The rows of the official test set; None where there is none apart."""
        if self.test_path is not None:
            return read_jsonl(self.test_path, self.rule)
        if self.dataset is None:
            return None
        parts = load_dataset(self.dataset, self.subset, self.rule)
        return parts["test"] if {"train", "test"} <= set(parts) else None

    def listed(self, split: str, difficulty: int) -> Sequence[Instance] | None:
        """The official test set, in its order; the other splits are drawn.

        Raises:
            ConfigError: All of its rows take more than `difficulty` calculations.
        """
        if split != "test" or self.test_rows is None:
            return None
        if difficulty not in self._easy:
            easy = [dict(problem) for steps, problem in self.test_rows if steps <= difficulty]
            if not easy:
                raise ConfigError(f"no test row takes at most {difficulty} calculations")
            self._easy[difficulty] = easy
        return self._easy[difficulty]

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A row whose solution takes at most `difficulty` calculations.

        Raises:
            ConfigError: There is none.
        """
        rows = self.rows
        for _ in range(100):
            steps, problem = rows[rng.randrange(len(rows))]
            if steps <= difficulty:
                return dict(problem)
        easy = [problem for steps, problem in rows if steps <= difficulty]
        if not easy:
            raise ConfigError(
                f"no row takes at most {difficulty} calculations, the shortest takes "
                f"{min(steps for steps, _ in rows)}; raise the difficulty"
            )
        return dict(rng.choice(easy))

    def start(self) -> str:
        """Ask."""
        return str(self.instance["question"])

    def respond(self, action: str) -> Reply:
        """Right or wrong."""
        return RIGHT if is_right(action, self.instance["answer"], RULES[self.rule]) else WRONG

    def oracle(self) -> str:
        """The reference solution and the answer."""
        return f"{self.instance['work']}\n#### {self.instance['answer']}"
