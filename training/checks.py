"""What a run needs besides fitting options, looked at before a model is read."""

from __future__ import annotations

from turnhalle.agents.models import context_limit
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.registry import EnvFactory

from .options import TrainOptions


def open_environments(options: TrainOptions) -> list[EnvFactory]:
    """The environments, after a task of each split and difficulty that the run will ask for."""
    factories = [part.factory() for part in (options.env, *(m.env for m in options.mix))]
    for factory in factories:
        for split in ("train", "eval"):
            factory().reset(options={"split": split, "task": 0})
    if options.curriculum:
        for difficulty in (options.curriculum.first, options.curriculum.last):
            factories[0]().reset(options={"task": 0, "difficulty": difficulty})
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
