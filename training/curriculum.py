"""A curriculum: harder tasks once the hardest so far are solved.

It is a value, not a wrapper: which difficulty a task of a step has follows from the level, the seed
and the step alone, and the level moves once a step, by the groups in the order of their tasks. So
it does not depend on how rollouts were scheduled, and a checkpoint holds all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnhalle.agents.core import Group
from turnhalle.envs.seeding import derive_rng


class CurriculumOptions(BaseModel):
    """How difficulty rises."""

    model_config = ConfigDict(extra="forbid")

    first: int = Field(1, ge=1)
    """Difficulty of the first step."""
    last: int = Field(5, ge=1)
    """Never harder than this."""
    raise_at: float = Field(0.75, gt=0, le=1)
    """Go one up once this share of the episodes at the level succeeds, over `window` steps."""
    window: int = Field(3, ge=1)
    review: float = Field(0.2, ge=0, lt=1)
    """Share of the tasks that are easier than the level, so that nothing is forgotten."""

    @model_validator(mode="after")
    def _check(self) -> CurriculumOptions:
        if self.first > self.last:
            raise ValueError(f"first ({self.first}) must not exceed last ({self.last})")
        return self


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Where a run stands in its curriculum."""

    options: CurriculumOptions
    level: int
    """The difficulty that is being learned."""
    recent: tuple[float, ...] = ()
    """Success at this level in the last steps, oldest first."""

    @classmethod
    def begin(cls, options: CurriculumOptions) -> Curriculum:
        """The start of a run."""
        return cls(options, options.first)

    def difficulty(self, seed: int, step: int, number: int) -> int:
        """Difficulty of task `number` of a step: the level, or sometimes an easier one."""
        rng = derive_rng("curriculum", seed, step, number)
        if self.level == self.options.first or rng.random() >= self.options.review:
            return self.level
        return rng.randrange(self.options.first, self.level)

    def after(self, groups: Sequence[Group]) -> Curriculum:
        """The curriculum after a step; masked episodes say nothing."""
        at_level = [g for g in groups if g.task.difficulty == self.level]
        counted = [t for g in at_level for t in g.trajectories if not t.is_masked]
        if not counted:
            return self
        success = sum(t.success for t in counted) / len(counted)
        recent = (*self.recent, success)[-self.options.window :]
        is_known = len(recent) == self.options.window and self.level < self.options.last
        if is_known and sum(recent) / len(recent) >= self.options.raise_at:
            return Curriculum(self.options, self.level + 1)
        return replace(self, recent=recent)

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"level": self.level, "recent": list(self.recent)}

    @classmethod
    def from_json(cls, options: CurriculumOptions, data: dict[str, Any]) -> Curriculum:
        """Inverse of `to_json`."""
        return cls(options, data["level"], tuple(data["recent"]))
