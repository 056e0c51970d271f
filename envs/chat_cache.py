"""Replies of endpoints on disk, one JSON file for each different request."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from .errors import ConfigError


class ChatCache:
    """A folder of replies; processes may share it, because files appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, request: dict[str, Any]) -> str | None:
        """The reply to an equal request, or None.

        Raises:
            ConfigError: The file of the request is damaged.
        """
        path = self._path(request)
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ConfigError(f"the cached reply {path} is damaged ({error}); delete it") from error
        # The whole request is compared, so not even equal hashes could mix replies up.
        if entry["request"] != request:
            return None
        return str(entry["reply"])

    def put(self, request: dict[str, Any], reply: str) -> None:
        """Keep a reply."""
        path = self._path(request)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        unfinished.write_text(json.dumps({"request": request, "reply": reply}), encoding="utf-8")
        unfinished.replace(path)

    def _path(self, request: dict[str, Any]) -> Path:
        canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
        name = hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
        return self._folder / name[:2] / f"{name}.json"
