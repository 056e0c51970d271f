"""The one client of OpenAI-compatible endpoints: judges, simulated users and policies use it.

It sends `POST {url}/chat/completions`, waits `timeout_s` for a reply, and tries again where that
can help (429, 5xx, a dead or slow server, a reply that is no chat completion). It counts what it
used. Equal requests may be answered from a cache on disk. It never guesses: what it cannot read is
an error with the boundary of whoever asked.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel

from .chat_cache import ChatCache
from .chat_options import ChatOptions
from .core import Message
from .errors import ConfigError, EndpointError, OutsideError
from .quoting import as_utf8
from .replies import recorded

if TYPE_CHECKING:
    import httpx

T = TypeVar("T", bound=BaseModel)
_MAX_REPLY_BYTES = 8_000_000
_RETRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MAX_PAUSE_S = 30.0
_SHOWN = 300
"""Characters of a bad reply that an error message shows."""


@dataclass(slots=True)
class Usage:
    """What a client has used so far."""

    requests: int = 0
    """Attempts that went over the network."""
    retries: int = 0
    from_cache: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatClient:
    """Asks one endpoint; safe to share among threads. `close` it, or take a `shared_client`."""

    def __init__(self, options: ChatOptions, error: type[OutsideError] = EndpointError) -> None:
        self.options, self.usage = options, Usage()
        self._error = error
        self._cache = ChatCache(options.cache) if options.cache is not None else None
        self._lock = threading.Lock()
        self._http: httpx.Client | None = None
        self._takes_schema = True

    def ask(self, messages: Sequence[Message], **extra: Any) -> str:
        """The endpoint's reply to a conversation; `extra` are further fields of the request.

        Raises:
            OutsideError: Of the class this client was built with: no readable reply after all
                retries.
        """
        asked = self._body(messages, extra)
        return recorded(asked, lambda: self._ask(asked, lambda text: None))

    def ask_for(self, schema: type[T], messages: Sequence[Message]) -> T:
        """The endpoint's reply as an instance of `schema`: nothing but one JSON object of it.

        Raises:
            OutsideError: No readable reply, or one that is not of the schema.
        """
        read = partial(self._read, schema)
        described = schema.model_json_schema()
        asked = self._body(messages, {"schema": described})
        return read(recorded(asked, lambda: self._ask_in_form(described, messages, read)))

    def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        with self._lock:
            if self._http is not None:
                self._http.close()
                self._http = None

    def _ask_in_form(
        self, described: dict[str, Any], messages: Sequence[Message], read: Callable[[str], object]
    ) -> str:
        """The reply in a schema, by `response_format`, or by a prompt where that is refused."""
        asked = {"name": "reply", "schema": described, "strict": True}
        if self._takes_schema:
            try:
                form = {"response_format": {"type": "json_schema", "json_schema": asked}}
                return self._ask(self._body(messages, form), read)
            except _RefusedError as refused:
                if not self.options.schema_fallback:
                    raise self._failure(
                        f"{refused.args[0]} It may not know response_format; set schema_fallback."
                    ) from refused
                self._takes_schema = False
        hint = f"Reply with one JSON object of this schema and nothing else: {described}"
        return self._ask(self._body([*messages, Message(role="user", content=hint)], {}), read)

    def _body(self, messages: Sequence[Message], extra: dict[str, Any]) -> dict[str, Any]:
        options = self.options
        return {
            "model": options.model,
            "messages": [{"role": m.role, "content": as_utf8(m.content)} for m in messages],
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            **extra,
        }

    def _ask(self, body: dict[str, Any], check: Callable[[str], object]) -> str:
        """The reply; `check` raises where it is none that should be kept."""
        key = {"url": self.options.url, **body}
        if self._cache is not None and (known := self._cache.get(key)) is not None:
            self._count(from_cache=1)
            return known
        text = self._with_retries(body)
        check(text)
        if self._cache is not None:
            self._cache.put(key, text)
        return text

    def _with_retries(self, body: dict[str, Any]) -> str:
        problem, asked_to_wait_s = "", 0.0
        for attempt in range(self.options.retries + 1):
            if attempt:
                self._count(retries=1)
                backoff_s = self.options.backoff_s * 2 ** (attempt - 1)
                time.sleep(min(_MAX_PAUSE_S, max(backoff_s, asked_to_wait_s)))
            self._count(requests=1)
            status, payload, asked_to_wait_s = self._post(body)
            if status == 200:
                text, problem = self._text_of(payload)
                if text is not None:
                    return text
            else:
                problem = f"answered {status}: {_shown(payload)}" if status else _shown(payload)
                if status in (400, 422) and "response_format" in body:
                    raise _RefusedError(f"{self._where()} {problem}.")
                if status and status not in _RETRY:
                    raise self._failure(problem)
        raise self._failure(f"{problem} (tried {self.options.retries + 1} times)")

    def _post(self, body: dict[str, Any]) -> _Attempt:
        """Ask once; status 0 with a description where no reply came in time."""
        import httpx

        deadline = time.monotonic() + self.options.timeout_s
        late = b"did not answer within %g s" % self.options.timeout_s
        request = {"json": body, "headers": self._headers(), "timeout": self.options.timeout_s}
        url = f"{self.options.url}/chat/completions"
        payload = bytearray()
        try:
            with self._connection().stream("POST", url, **request) as reply:  # type: ignore[arg-type]
                for chunk in reply.iter_bytes():
                    payload += chunk
                    if len(payload) > _MAX_REPLY_BYTES:
                        return _Attempt(0, b"sent more than %d bytes" % _MAX_REPLY_BYTES)
                    if time.monotonic() > deadline:
                        return _Attempt(0, late)
                wait = reply.headers.get("retry-after", "")
                wait_s = float(wait) if wait.isascii() and wait.isdigit() else 0.0
                return _Attempt(reply.status_code, bytes(payload), wait_s)
        except httpx.TimeoutException:
            return _Attempt(0, late)
        except httpx.HTTPError as error:
            problem = f"cannot be reached: {type(error).__name__}: {error}"
            return _Attempt(0, problem.encode())

    def _text_of(self, payload: bytes) -> tuple[str | None, str]:
        """The reply's text, or None and what is wrong with the reply."""
        try:
            data = json.loads(payload)
            content = data["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            return None, f"sent what is no chat completion: {_shown(payload)}"
        if not isinstance(content, str):
            return None, f"sent a message without text: {_shown(payload)}"
        usage = data.get("usage")
        if isinstance(usage, dict):
            names = ("prompt_tokens", "completion_tokens")
            self._count(**{n: usage[n] for n in names if isinstance(usage.get(n), int)})
        return content, ""

    def _read(self, schema: type[T], text: str) -> T:
        try:
            return schema.model_validate(json.loads(text, object_pairs_hook=_unique))
        except (ValueError, RecursionError) as error:
            raise self._failure(
                f"was asked for JSON of {schema.__name__} and sent {text[:_SHOWN]!r}"
            ) from error

    def _headers(self) -> dict[str, str]:
        name = self.options.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name)
        if not key:
            raise ConfigError(f"environment variable {name} is to hold the API key and is not set")
        return {"Authorization": f"Bearer {key}"}

    def _connection(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._http is None:
                # Certificates take 0.2 s to load, and plain http needs none.
                self._http = httpx.Client(verify=self.options.url.startswith("https:"))
            return self._http

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, value in more.items():
                setattr(self.usage, name, getattr(self.usage, name) + value)

    def _where(self) -> str:
        return f"{self._error.boundary}: {self.options.model} at {self.options.url}"

    def _failure(self, what: str) -> OutsideError:
        return self._error(what if what.startswith(self._where()) else f"{self._where()} {what}")


class _Attempt(NamedTuple):
    """What came of one request."""

    status: int
    payload: bytes
    wait_s: float = 0.0
    """Seconds that the server asks to wait before the next one."""


class _RefusedError(Exception):
    """The endpoint refused a request that asked for a schema."""


_shared: dict[tuple[int, ChatOptions, type[OutsideError]], ChatClient] = {}
_shared_lock = threading.Lock()


def shared_client(options: ChatOptions, error: type[OutsideError] = EndpointError) -> ChatClient:
    """The process's one client with these options, so that episodes share its connections."""
    # Connections must not be shared with a forked process, hence its id.
    key = (os.getpid(), options, error)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = ChatClient(options, error)
            atexit.register(_shared[key].close)
        return _shared[key]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a key that comes twice would let the reader choose, so it is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _shown(payload: bytes) -> str:
    return payload.decode(errors="replace")[:_SHOWN]
