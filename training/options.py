"""Options of a training run; each layer owns the model of its own part."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.agents.chat import ChatOptions
from turnhalle.agents.engines.base import Sampling
from turnhalle.agents.engines.options import EngineOptions
from turnhalle.agents.limits import BranchOptions, LimitOptions
from turnhalle.agents.llm import Overflow
from turnhalle.agents.models import ModelOptions
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.options import EnvOptions

from .credit.options import CreditOptions
from .curriculum import CurriculumOptions
from .learn_options import LearnOptions
from .losses.correction import CorrectionOptions
from .losses.options import KlOptions, LossOptions
from .objective import Objective
from .shaping import OverlongOptions
from .stopping import StopOptions
from .unused import refuse_unused
from .value import ValueOptions


class RolloutOptions(BaseModel):
    """What a step plays."""

    model_config = ConfigDict(extra="forbid")

    tasks: int = Field(16, ge=1)
    """Different tasks a step."""
    group_size: int = Field(8, ge=1)
    """Rollouts of each task; most credit is relative to their mean and needs two."""
    max_refills: int = Field(0, ge=0)
    """Dynamic sampling: most further tasks a step that replace groups without variance."""
    temperature: float = Field(1.0, gt=0, le=10.0)
    top_k: int | None = Field(None, ge=2)
    """Sample among this many of the most likely tokens; each weighs as much as was kept."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Sample among the most likely tokens that have this much of the probability together."""
    max_new_tokens: int = Field(64, ge=1)
    """Most tokens of one turn."""
    max_context: int | None = Field(None, ge=2)
    """Most tokens of an episode; None is what the model knows."""
    max_concurrent: int = Field(256, ge=1)
    """Most episodes at a time; bounds the memory of their keys and values."""
    overflow: Overflow = "end"
    """What becomes of an observation that leaves no room for a turn: "end" ends the episode before
    it, "truncate" leaves its middle out."""
    limits: LimitOptions = LimitOptions()
    lookahead: Literal[0, 1] = 0
    """1 is one-step off-policy: the batch of the next step is played while this one trains, by the
    adapter from before this update."""
    branch: BranchOptions = BranchOptions()
    """Where episodes are forked; a group has group_size x factor^len(at) trajectories then."""

    def sampling(self) -> Sampling:
        """How training samples."""
        return Sampling(
            temperature=self.temperature,
            max_new_tokens=self.max_new_tokens,
            top_k=self.top_k,
            top_p=self.top_p,
        )


class EvalOptions(BaseModel):
    """How the policy is measured: held-out tasks, at the temperature of training."""

    model_config = ConfigDict(extra="forbid")

    tasks: int = Field(200, ge=10)
    every: int = Field(10, ge=0)
    """Also evaluate every so many steps; 0 is before and after only."""


class MixOptions(BaseModel):
    """A further environment in the same batch."""

    model_config = ConfigDict(extra="forbid")

    env: EnvOptions
    weight: float = Field(1.0, gt=0)
    """How often a task is of this environment, where `env` has weight 1."""


class TrainOptions(BaseModel):
    """Everything that a training run is; the same options give the same run."""

    model_config = ConfigDict(extra="forbid")

    env: EnvOptions = EnvOptions()
    mix: list[MixOptions] = []
    """Further environments; each is evaluated too."""
    model: ModelOptions = ModelOptions()
    chat: ChatOptions = ChatOptions()
    start_from: str | None = None
    """Folder of an adapter to go on from, such as a run's `adapter/`; None is a fresh one."""
    rollout: RolloutOptions = RolloutOptions()
    engine: EngineOptions = EngineOptions()
    overlong: OverlongOptions = OverlongOptions()
    credit: CreditOptions = CreditOptions()
    loss: LossOptions = LossOptions()
    kl: KlOptions = KlOptions()
    correction: CorrectionOptions = CorrectionOptions()
    value: ValueOptions = ValueOptions()
    learn: LearnOptions = LearnOptions()
    evaluate: EvalOptions = EvalOptions()
    curriculum: CurriculumOptions | None = None
    """Difficulty that rises with success; None trains at the environment's own. Evaluation always
    is at the environment's own."""
    stop: StopOptions = StopOptions()
    steps: int = Field(30, ge=1)
    seed: int = Field(0, ge=0)
    checkpoint_every: int = Field(10, ge=1)
    keep_checkpoints: int = Field(2, ge=1)

    @property
    def objective(self) -> Objective:
        """What an update descends."""
        value = self.value if self.credit.needs_values else None
        return Objective(self.loss, self.kl, self.correction, value)

    def check(self) -> None:
        """Refuse combinations that cannot work.

        Raises:
            ConfigError: Says which, and the fix.
        """
        for part in (self.credit, self.loss, self.kl):
            part.check()
        self._check_episodes()
        self._check_idle()
        self._check_truncation()
        self._check_old_tokens()
        if self.mix and self.curriculum:
            raise ConfigError(
                "curriculum and mix do not go together: difficulties of different environments "
                "cannot be compared; leave one out"
            )
        if self.overlong.buffer_tokens >= self.rollout.max_new_tokens:
            raise ConfigError(
                f"overlong.buffer_tokens = {self.overlong.buffer_tokens} must be below "
                f"rollout.max_new_tokens = {self.rollout.max_new_tokens}"
            )

    def _check_episodes(self) -> None:
        rollout, estimator = self.rollout, self.credit.estimator
        episodes = rollout.tasks * rollout.group_size
        if self.learn.minibatches > episodes:
            raise ConfigError(
                f"learn.minibatches is {self.learn.minibatches}, but a step plays only {episodes} "
                "episodes (rollout.tasks x rollout.group_size)"
            )
        if rollout.group_size * rollout.branch.num_leaves == 1 and self.credit.is_relative:
            raise ConfigError(
                f"credit.estimator = {estimator!r} compares the rollouts of a task, and "
                "rollout.group_size = 1 leaves nothing to compare; set it to 2 or more, fork "
                'episodes (rollout.branch.at), or take "ppo", "reinforce" or "reinforce_pp"'
            )
        if rollout.max_refills and not self.credit.is_relative:
            raise ConfigError(
                f"rollout.max_refills = {rollout.max_refills} has no effect with "
                f"credit.estimator = {estimator!r}: it learns from groups of equal returns too"
            )

    def _check_old_tokens(self) -> None:
        """Who learns from tokens of an older policy has to know it."""
        if self.loss.name == "reinforce" and self.learn.epochs > 1:
            raise ConfigError(
                f"loss.name = 'reinforce' with learn.epochs = {self.learn.epochs}: from the second "
                "epoch on the tokens are of an older policy, which it does not correct for; take "
                'loss.name = "ppo", or one epoch'
            )
        if not self.rollout.lookahead:
            return
        if self.loss.name == "reinforce" and self.correction.level is None:
            raise ConfigError(
                "loss.name = 'reinforce' with rollout.lookahead = 1: the tokens are of an older "
                "policy, which it does not correct for; set correction.level, or take "
                'loss.name = "ppo"'
            )
        if self.engine.name == "vllm" and self.engine.vllm.sleep:
            raise ConfigError(
                "engine.vllm.sleep lends vLLM's memory to the update, but with rollout.lookahead = "
                "1 vLLM samples meanwhile; leave one of them out"
            )

    def _check_truncation(self) -> None:
        name, sampling = self.engine.name, self.rollout.sampling()
        if sampling.is_truncated and name != "transformers":
            raise ConfigError(
                f"engine.name = {name!r} does not say how much of the distribution "
                "rollout.top_k and rollout.top_p keep, and without it nobody knows what the tokens "
                'weigh; leave them out, or set engine.name = "transformers"'
            )

    def _check_idle(self) -> None:
        name = self.engine.name
        own = {"transformers": "cache_gib", "vllm": "vllm"}.get(name, "adapter_folder")
        used = {"name", "parity_every", own}
        refuse_unused("engine", self.engine, used, f"engine.name = {name!r}")
        if not self.credit.needs_values:
            because = f"credit.estimator = {self.credit.estimator!r}"
            refuse_unused("value", self.value, set(), because)
        if self.correction.level is None:
            refuse_unused("correction", self.correction, set(), "correction.level unset")
        if not self.overlong.buffer_tokens:
            refuse_unused("overlong", self.overlong, set(), "overlong.buffer_tokens = 0")
