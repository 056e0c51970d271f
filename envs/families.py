"""What the tasks of an environment are like: enough of them, and can a policy tell them apart?

Where every episode opens with the same words (guess my number), no policy can recognise a task, so
none can leak; holding instances out would only teach that their secrets never occur. Tasks of such
a family are split by draw: each split has streams of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from .errors import EnvError, TaskError
from .seeding import derive_rng
from .tasks import Family, Instance, Task, canonical

if TYPE_CHECKING:
    from .env import TextEnv

MIN_INSTANCES = 30
"""A family with fewer different instances has no honest held-out split: three would be left."""

_DRAWS = 200
_Key = tuple[type, str, int]
# The class itself, not its name: a notebook defines a class of the same name again.
_by_content: dict[_Key, bool] = {}
_varied: set[_Key] = set()


def family_of(env: TextEnv, difficulty: int) -> Family:
    """The family of an environment at a difficulty; how it is split is found out once."""
    key = _key(env, difficulty)
    if key not in _by_content:
        outside = env.metadata["snapshot"] == "none"  # too costly to start just to look
        family = Family(env.id, env.draw, difficulty, by_content=True)
        _by_content[key] = outside or _shows_its_tasks(env.anew(), family)
    return Family(env.id, env.draw, difficulty, _by_content[key], env.listed, env.content)


def require_variety(env: TextEnv, difficulty: int) -> None:
    """Refuse a family that is too small for held-out splits by content.

    Raises:
        TaskError: Fewer than `MIN_INSTANCES` different instances in 200 draws.
    """
    family, key = family_of(env, difficulty), _key(env, difficulty)
    if not family.by_content or key in _varied:
        return
    seen = {canonical(family.content(instance)) for instance in _sample(family)}
    if len(seen) < MIN_INSTANCES:
        raise TaskError(
            f"{family.env} at difficulty {family.difficulty} has only {len(seen)} different tasks "
            f"in {_DRAWS} draws; held-out splits need at least {MIN_INSTANCES}. Raise the "
            "difficulty (class attribute `difficulty`, or `--difficulty`) or widen `draw`."
        )
    _varied.add(key)


def _key(env: TextEnv, difficulty: int) -> _Key:
    return type(env), repr(env.construction), difficulty


def _sample(family: Family) -> Iterator[Instance]:
    """Instances whatever their split."""
    rng = derive_rng(family.env, "sample", family.difficulty)
    return (family.instance(rng) for _ in range(_DRAWS))


def _shows_its_tasks(env: TextEnv, family: Family) -> bool:
    """Do any two tasks open with different words?"""
    openings = set()
    for index, instance in enumerate(islice(_sample(family), MIN_INSTANCES)):
        try:
            opening, info = env.begin(Task(env.id, "train", index, family.difficulty, instance))
        except EnvError:
            return True  # the episode itself will say what is wrong
        openings.add((opening, *(message.content for message in info["messages"])))
        if len(openings) > 1:
            return True
    return False
