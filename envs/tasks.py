"""Tasks, and splits that cannot meet.

An instance belongs to the split that the hash of its content says, so `train`, `eval` and `test`
are disjoint whatever the seeds are, in every environment and version that draws such instances.
Drawing goes on until the split matches.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import EnvError, TaskError, TurnhalleError, unknown_name
from .seeding import derive_rng, hash_position

Instance = dict[str, Any]
Draw = Callable[[random.Random, int], Instance]

SPLITS = {"train": 0.8, "eval": 0.1, "test": 0.1}
"""Share of the instances by split."""

_MAX_DRAWS = 2000
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Task:
    """One task of an environment; never shown to a policy, and enough to replay an episode."""

    env: str
    """Id of the environment, or `module:Class`."""
    split: str
    index: int
    difficulty: int
    instance: Instance
    """What `draw` returned; JSON."""
    noise: int = 0
    """Which draw of the transition noise; the rollouts of a group share it."""

    def to_json(self) -> dict[str, Any]:
        """The task as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        """Inverse of `to_json`."""
        return cls(**data)


def canonical(instance: Any) -> str:
    """The one JSON text of an instance, or of a part of it: sorted keys, no spaces, no NaN.

    Raises:
        TaskError: The instance is not plain JSON.
    """
    try:
        return _encode(instance)
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"`draw` must return a dict of plain JSON values, got {instance!r}: {error}"
        ) from error


def split_of(content: Any) -> str:
    """The split that an instance of this content belongs to."""
    position = hash_position(canonical(content))
    for split, share in SPLITS.items():
        if position < share:
            return split
        position -= share
    return "test"


@dataclass(frozen=True, slots=True)
class Family:
    """What draws the tasks of an environment at one difficulty."""

    env: str
    draw: Draw
    difficulty: int
    by_content: bool
    """Are splits by content, or by draw?"""
    listed: Callable[[str, int], Sequence[Instance] | None] | None = None
    """The tasks of a split that is a list, by split and difficulty."""
    content: Callable[[Instance], Any] = dict
    """What of an instance makes it another task; all of it by default."""

    def instance(self, rng: random.Random) -> Instance:
        """Draw one, whatever its split.

        Raises:
            EnvError: `draw` has a bug.
        """
        try:
            return self.draw(rng, self.difficulty)
        except (TurnhalleError, NotImplementedError):
            raise
        except Exception as error:
            raise self._bug("draw", error) from error

    def split(self, instance: Instance) -> str:
        """The split that an instance belongs to by its content.

        Raises:
            EnvError: `content` has a bug.
        """
        try:
            content = self.content(instance)
        except Exception as error:
            raise self._bug("content", error) from error
        return split_of(content)

    def _bug(self, where: str, error: Exception) -> EnvError:
        what = f"{type(error).__name__}: {error}"
        return EnvError(f"bug in {where} of {self.env} at difficulty {self.difficulty}: {what}")


def draw_task(family: Family, split: str, index: int, noise: int) -> Task:
    """Draw task number `index` of a split: the same arguments give the same task everywhere.

    Raises:
        UnknownNameError: No such split.
        TaskError: No draw fell into the split, or the author lists no tasks of it.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    env, difficulty = family.env, family.difficulty
    if family.listed is not None and (rows := family.listed(split, difficulty)) is not None:
        if not rows:
            raise TaskError(
                f"{env} at difficulty {difficulty}: `listed` gave no tasks of split {split!r}; "
                "return None to have them drawn, or ask for another split or difficulty"
            )
        return Task(env, split, index, difficulty, dict(rows[index % len(rows)]), noise)
    for attempt in range(_MAX_DRAWS):
        instance = family.instance(derive_rng(env, split, index, difficulty, attempt))
        if not family.by_content or family.split(instance) == split:
            return Task(env, split, index, difficulty, instance, noise)
    raise TaskError(
        f"{env} at difficulty {difficulty}: {_MAX_DRAWS} draws gave no instance of split "
        f"{split!r}; the family is too small to be split. Raise the difficulty or widen `draw`."
    )
