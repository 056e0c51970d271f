"""What the environments of a run are called, so that each is measured under a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from turnhalle.envs.errors import ConfigError
from turnhalle.envs.registry import EnvFactory


def labels(factories: Sequence[EnvFactory]) -> list[str]:
    """The id of each environment; where an id is there several times, with its options.

    Raises:
        ConfigError: Two environments are the same.
    """
    ids = Counter(factory.id for factory in factories)
    found = [f.id if ids[f.id] == 1 else f.id + _options(f) for f in factories]
    for label, count in Counter(found).items():
        if count > 1:
            raise ConfigError(
                f"{label} is there {count} times, with equal options, and would be measured under "
                "one name; leave all but one out (how often it is played, its weight or its "
                "episodes say)"
            )
    return found


def _options(factory: EnvFactory) -> str:
    given = ", ".join(f"{name}={value}" for name, value in sorted(factory.kwargs.items()))
    return f"({given})" if given else ""
