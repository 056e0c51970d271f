"""Replies of outside models (judges, simulated users): recorded as they come, then replayed.

While an environment acts, its record is the current one of the context, and the chat client asks
the record before it asks the endpoint. So a fork, or an episode resumed in another process, that
replays its actions asks nobody again and gets the replies of the original. Threads that a step
starts see the record if they run in a copy of its context.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any


class Replies:
    """The replies of one episode, by a hash of what was asked; equal questions in their order."""

    __slots__ = ("_kept", "_to_replay")

    def __init__(self, recorded: Mapping[str, list[str]] | None = None) -> None:
        """Begin a record, or go on with what `to_json` gave, to be replayed first."""
        self._kept: dict[str, list[str]] = {k: list(v) for k, v in (recorded or {}).items()}
        self._to_replay = {key: list(replies) for key, replies in self._kept.items()}

    def end_replay(self) -> None:
        """From now on every question is a new one."""
        self._to_replay = {}

    def get(self, request: Mapping[str, Any], ask: Callable[[], str]) -> str:
        """The recorded reply to a request whose turn it is, or that of `ask`, which is recorded."""
        key = _key(request)
        with _lock:
            if waiting := self._to_replay.get(key):
                return waiting.pop(0)
        reply = ask()
        with _lock:
            self._kept.setdefault(key, []).append(reply)
        return reply

    def to_json(self) -> dict[str, list[str]]:
        """The whole record."""
        return {key: list(replies) for key, replies in self._kept.items()}


_lock = threading.Lock()
_current: ContextVar[Replies | None] = ContextVar("replies", default=None)
start_recording, stop_recording = _current.set, _current.reset
"""Make a record the current one, and what it was before again; a step cannot afford more."""


def recorded(request: Mapping[str, Any], ask: Callable[[], str]) -> str:
    """The reply to a request: by the current record, or of `ask` where there is none."""
    replies = _current.get()
    return ask() if replies is None else replies.get(request, ask)


def _key(request: Mapping[str, Any]) -> str:
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(errors="replace"), digest_size=16).hexdigest()
