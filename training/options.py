"""Options of a training run; each layer owns the model of its own part."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents.chat import ChatOptions
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.options import EngineOptions
from turnhalle.agents.limits import BranchOptions, LimitOptions
from turnhalle.agents.llm import Overlong
from turnhalle.agents.models import ModelOptions
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.options import EnvOptions

from .curriculum import CurriculumOptions
from .learner import LearnOptions


class RolloutOptions(BaseModel):
    """What a step plays."""

    model_config = ConfigDict(extra="forbid")

    tasks: int = Field(16, ge=1)
    """Different tasks a step."""
    group_size: int = Field(8, ge=2)
    """Rollouts of each task; credit is relative to their mean, so there must be two."""
    temperature: float = Field(1.0, gt=0, le=10.0)
    max_new_tokens: int = Field(64, ge=1)
    """Most tokens of one turn."""
    max_context: int | None = Field(None, ge=2)
    """Most tokens of an episode; None is what the model knows."""
    max_concurrent: int = Field(256, ge=1)
    """Most episodes at a time; bounds the memory of their keys and values."""
    overlong: Overlong = "end"
    """What becomes of an observation that leaves no room for a turn: "end" ends the episode before
    it, "truncate" leaves its middle out."""
    limits: LimitOptions = LimitOptions()
    branch: BranchOptions = BranchOptions()
    """Where episodes are forked; a group has group_size x factor^len(at) trajectories then."""

    def sampling(self) -> Sampling:
        """How training samples."""
        return Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens)


class EvalOptions(BaseModel):
    """How the policy is measured: held-out tasks, at the temperature of training."""

    model_config = ConfigDict(extra="forbid")

    tasks: int = Field(200, ge=10)
    every: int = Field(10, ge=0)
    """Also evaluate every so many steps; 0 is before and after only."""


class TrainOptions(BaseModel):
    """Everything that a training run is; the same options give the same run."""

    model_config = ConfigDict(extra="forbid")

    env: EnvOptions = EnvOptions()
    model: ModelOptions = ModelOptions()
    chat: ChatOptions = ChatOptions()
    rollout: RolloutOptions = RolloutOptions()
    engine: EngineOptions = EngineOptions()
    learn: LearnOptions = LearnOptions()
    evaluate: EvalOptions = EvalOptions()
    curriculum: CurriculumOptions | None = None
    """Difficulty that rises with success; None trains at the environment's own. Evaluation always
    is at the environment's own."""
    steps: int = Field(30, ge=1)
    seed: int = Field(0, ge=0)
    checkpoint_every: int = Field(10, ge=1)
    keep_checkpoints: int = Field(2, ge=1)

    def check(self) -> None:
        """Refuse combinations that cannot work.

        Raises:
            ConfigError: Says which, and the fix.
        """
        episodes = self.rollout.tasks * self.rollout.group_size
        if self.learn.minibatches > episodes:
            raise ConfigError(
                f"learn.minibatches is {self.learn.minibatches}, but a step plays only {episodes} "
                "episodes (rollout.tasks x rollout.group_size)"
            )
