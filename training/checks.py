"""What a run needs besides fitting options, looked at before it learns."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from turnhalle.agents.evaluate import Evaluation
from turnhalle.agents.models import context_limit
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.registry import EnvFactory

from .labels import labels
from .options import TrainOptions

LOW_SUCCESS = 0.05
"""Below this, most groups have no variance and there is nothing to learn from."""


def open_environments(options: TrainOptions) -> list[EnvFactory]:
    """The environments, after a task of each split and difficulty that the run will ask for.

    Raises:
        ConfigError: One cannot be made, or is there twice.
    """
    factories = [part.factory() for part in (options.env, *(m.env for m in options.mix))]
    labels(factories)
    asked: list[Any] = [(f, {"split": s, "task": 0}) for f in factories for s in ("train", "eval")]
    if options.curriculum:
        levels = (options.curriculum.first, options.curriculum.last)
        asked += [(factories[0], {"task": 0, "difficulty": level}) for level in levels]
    for factory, task in asked:
        with closing(factory.open()) as env:
            env.reset(options=task)
    return factories


def check_context(options: TrainOptions) -> None:
    """Refuse a context that the model does not know.

    Raises:
        ConfigError: Says how long it may be.
    """
    asked = options.rollout.max_context
    if asked is None:
        return
    known = context_limit(options.model.name)
    if asked > known:
        raise ConfigError(
            f"rollout.max_context = {asked}, but {options.model.name} knows {known} positions; "
            f"set it to {known} or less, or leave it out"
        )


def low_success(before: Evaluation, options: TrainOptions) -> str:
    """A warning where the policy solves too little for learning to start, else ""."""
    if before.success.value >= LOW_SUCCESS:
        return ""
    return (
        f"success before training is {before.success.percent()}: below "
        f"{100 * LOW_SUCCESS:.0f} % almost every group of episodes has equal rewards, and there is "
        "nothing to learn from. Let the policy imitate the oracle first: "
        f"turnhalle prime --env {options.env.id} --model {options.model.name}"
    )
