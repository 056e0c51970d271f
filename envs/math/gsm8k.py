"""`Gsm8k-v0`: grade-school word problems from a file or a dataset."""

from __future__ import annotations

import os
import random
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core import Reply
from ..env import TextEnv
from ..errors import ConfigError, unknown_name
from ..tasks import Instance
from .datasets import Rows, load_dataset, read_jsonl
from .grading import RULES, is_right
from .problems import RIGHT, WRONG
from .worker import require_sympy

PATH_VARIABLE = "TURNHALLE_GSM8K"
"""Environment variable: the JSONL file that is read where neither path nor dataset is given."""


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
        dataset: str | None = None,
        subset: str | None = None,
        rule: str = "money",
        **kwargs: Any,
    ) -> None:
        """Choose the rows; they are read with the first task.

        Args:
            path: A JSONL file with the fields `question` and `answer`.
            dataset: The name of a Hugging Face dataset, instead.
            subset: Its configuration; `main` for `openai/gsm8k`.
            rule: How answers are read, a name in `grading.RULES`; GSM8K's are whole numbers.
            kwargs: Options of every environment.

        Raises:
            ConfigError: Neither path nor dataset, both, no such file, or sympy is missing.
            UnknownNameError: No such rule.
        """
        if path is None and dataset is None:
            path = os.environ.get(PATH_VARIABLE)
        if (path is None) == (dataset is None):
            raise ConfigError(
                "Gsm8k needs its rows: path='test.jsonl' (fields question and answer), or "
                "dataset='openai/gsm8k', subset='main', not both; without either, the file that "
                f"the environment variable {PATH_VARIABLE} names"
            )
        if subset is not None and dataset is None:
            raise ConfigError(f"subset={subset!r} belongs to dataset, which is not given")
        if rule not in RULES:
            raise unknown_name("grading rule", rule, RULES)
        if RULES[rule].kind == "symbolic":
            require_sympy()
        self.rule = rule
        self.path = None if path is None else Path(path)
        if self.path is not None and not self.path.is_file():
            raise ConfigError(f"no file {str(path)!r}; path must be a JSONL file of GSM8K's format")
        self.dataset, self.subset = dataset, subset
        super().__init__(**kwargs)

    @cached_property
    def rows(self) -> Rows:
        """Every row, whatever its difficulty; read on first use."""
        if self.path is not None:
            return read_jsonl(self.path, self.rule)
        return load_dataset(str(self.dataset), self.subset, self.rule)

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """A row whose solution takes at most `difficulty` calculations."""
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
