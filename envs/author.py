"""What an author writes: the hooks and attributes of a text environment.

`envs/env.py` turns them into the whole contract; nobody subclasses `World` but `TextEnv`.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Sequence
from typing import Any

import gymnasium

from .core import Reply, ToolSpec
from .tasks import Instance


class World(gymnasium.Env[str, str]):
    """The part of a text environment that is particular to its world.

    Class attributes an author may set: `reward_range` (lowest and highest return of an episode),
    `reward_floor` (the most a failed episode may return), `success_floor` (the share of tasks that
    a policy may solve which does no work), `answer_in_sight` (the right action is among what is
    shown: copying, choosing), `max_turns`, `difficulty` (the default), `system_prompt` (rules for a
    chat model; the class docstring's first paragraph by default).
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 Gymnasium declares it so
        "render_modes": ["ansi"],
        "render_fps": 4,
        "snapshot": "replay",
        "blocking": False,
    }
    reward_range: tuple[float, float] = (0.0, 1.0)
    reward_floor: float = 0.0
    success_floor: float = 0.05
    answer_in_sight: bool = False
    max_turns: int = 10
    difficulty: int = 1
    system_prompt: str = ""

    instance: Instance
    """What `draw` returned for this episode."""
    turn: int
    """Number of actions so far; in `respond` the current one counts."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.state is not World.state and cls.restore is not World.restore:
            cls.metadata = {**cls.metadata, "snapshot": "state"}
        if "system_prompt" not in cls.__dict__ and cls.__dict__.get("__doc__"):
            first_paragraph = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
            cls.system_prompt = " ".join(first_paragraph.split())

    def draw(self, rng: random.Random, difficulty: int) -> Instance:
        """Draw an instance: a dict of plain JSON values, from `rng` alone."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(self, rng, difficulty)")

    def listed(self, split: str, difficulty: int) -> Sequence[Instance] | None:
        """The tasks of a split that the author holds out, in order; None (the default): drawn.

        Task i is entry i modulo their number, which is not zero; `draw` must then never give one of
        another split.
        """
        return None

    def content(self, instance: Instance) -> Any:
        """What of an instance makes it another task, as JSON; its split goes by that alone.

        All of it by default. Where parts of an instance may never be seen (the other rows of a
        table), name those that decide, or twins stand in two splits.
        """
        return instance

    def start(self) -> str | Reply:
        """Set up the world from `self.instance` and return the first observation."""
        raise NotImplementedError(f"{type(self).__name__} must define start(self)")

    def respond(self, action: str) -> Reply:
        """Answer an action with a `Reply`, or an `End`."""
        raise NotImplementedError(f"{type(self).__name__} must define respond(self, action)")

    def oracle(self) -> str:
        """The action of an expert who knows the instance."""
        raise NotImplementedError(f"{type(self).__name__} has no oracle")

    def mistake(self, rng: random.Random) -> str | None:
        """A plausible wrong action here, for demonstrations with honest errors.

        None (the default) means: what the oracle did somewhere in another task.
        """
        return None

    def near_misses(self, answer: str) -> list[str]:
        """Actions like the oracle's `answer` that are wrong here; the audit tries them.

        Empty (the default) means: the audit changes numbers and words of the answer by itself.
        """
        return []

    def state(self) -> dict[str, Any]:
        """The world as JSON; with `restore`, makes snapshots cheap. Without: actions replayed."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Set the world to a `state()` of the same task."""
        raise NotImplementedError

    def tools(self) -> list[ToolSpec]:
        """The tools of the episode; none by default."""
        return []
