"""The options that a run wrote down: read again, or said why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from turnhalle.envs.errors import ConfigError, StoreError

Options = TypeVar("Options", bound=BaseModel)


def not_begun(folder: Path) -> StoreError:
    """The error for a run that was stopped before it had written its options."""
    return StoreError(
        f"the run in {folder} was stopped before it had begun, and holds nothing; remove the "
        "folder to begin there, or give another one"
    )


def read_options(model: type[Options], saved: Any, folder: Path) -> Options:
    """The options of a run, or a part of them.

    Args:
        model: Of the options.
        saved: What the run wrote; None is nothing.
        folder: The run's.

    Raises:
        StoreError: It wrote none.
        ConfigError: This version does not take them.
    """
    if saved is None:
        raise not_begun(folder)
    try:
        return model.model_validate(saved)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the run in {folder} was begun with options that this Turnhalle does not take "
            f"({key} = {first['input']!r}: {first['msg']}); go on with the version that began it, "
            "or begin a new run"
        ) from error
