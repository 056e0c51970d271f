"""Folders that are to be written: refused before anything long starts."""

from __future__ import annotations

import os
from pathlib import Path

from turnhalle.envs.errors import ConfigError, StoreError


def require_new(folder: Path, or_else: str = "") -> None:
    """Refuse a folder that holds something, or that cannot be made. Nothing is made yet.

    Args:
        folder: The folder.
        or_else: What else may be done where it holds something.

    Raises:
        ConfigError: A file is in the way, or nothing may be written there.
        StoreError: It holds something.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigError(f"{folder} cannot be a folder: {there} is none; give another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written: {there} is not yours; give another folder")
    if there == folder and any(folder.iterdir()):
        raise StoreError(f"{folder} exists and is not empty; give another folder{or_else}")
