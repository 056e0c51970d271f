"""Writing an episode to a file that can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from turnhalle.envs.env import TextEnv
from turnhalle.envs.errors import ConfigError
from turnhalle.envs.tasks import Task


@runtime_checkable
class HasReplay(Protocol):
    """An environment whose episodes can be exported."""

    def export_replay(self, task: Task, actions: Sequence[str], path: Path) -> None:
        """Play the actions in the task and write what happens."""
        ...


_ENDINGS = (".html", ".gif")


def require_replay(world: TextEnv, path: Path) -> HasReplay:
    """The environment, if it can export its episodes; asked before an episode is played.

    Raises:
        ConfigError: It cannot, or not to such a file.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"--export writes a {' or '.join(_ENDINGS)} file, got {path.name!r}")
    if not isinstance(world, HasReplay):
        raise ConfigError(
            f"{world.id} has no replay to export; turnhalle/Pacman-v0 has, and your own has if it "
            "defines export_replay(task, actions, path)"
        )
    return world
