"""A connection to an MCP server: a thread with an event loop of its own, and calls with time-outs.

The official `mcp` SDK speaks the protocol. Whatever goes wrong with the server (it does not start,
dies, or does not answer in time) is an `OutsideError`, never a hang; what a tool itself complains
of is a `ToolError` for the policy to read.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..core import ToolSpec
from ..errors import ConfigError, OutsideError
from .tool import ToolError

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult

_GONE = -32000, -32001
"""Codes by which the SDK tells that the connection closed, or that no answer came in time."""
_CLOSING_S = 10.0


class McpConnection:
    """A server that was started by its command, or found at its URL; open until `close`."""

    def __init__(self, server: str | Sequence[str], timeout_s: float) -> None:
        """Connect and ask for the tools.

        Args:
            server: URL of a streamable HTTP server, or the command that starts a stdio server.
            timeout_s: How long to wait for the connection and for each call, in seconds.

        Raises:
            ConfigError: The SDK is not installed.
            OutsideError: The server cannot be reached.
        """
        try:
            import mcp  # noqa: F401
        except ImportError as error:
            raise ConfigError('MCP tools need the SDK: pip install "turnhalle[mcp]"') from error
        self.server, self.timeout_s = server, timeout_s
        self.is_open = True
        self._said: Any = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 see `close`
        self._task: asyncio.Task[None] | None = None
        self._ready: Future[list[ToolSpec]] = Future()
        self._thread = threading.Thread(target=self._run, name="turnhalle-mcp", daemon=True)
        self._thread.start()
        try:
            self.specs = self._ready.result(timeout_s)
        except WaitTimeoutError:
            raise self._broken(f"no answer within {timeout_s:g} s") from None
        except Exception as error:  # whatever the SDK or its transport raises
            raise self._broken(_first_cause(error)) from error

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """Call a tool; returns its text.

        Raises:
            ToolError: The tool, or the server on its behalf, refuses the call.
            OutsideError: The server is gone, or does not answer in time.
        """
        from mcp import MCPError

        if not self.is_open:
            raise OutsideError(f"the connection to the MCP server {self.server} is closed")
        asked = self._client.call_tool(name, arguments)
        waiting = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return _text(waiting.result(self.timeout_s))
        except WaitTimeoutError:
            waiting.cancel()
            raise self._broken(f"{name}: no answer within {self.timeout_s:g} s") from None
        except ToolError:
            raise
        except MCPError as error:
            if error.code in _GONE:
                raise self._broken(f"{name}: {error}") from error
            raise ToolError(str(error)) from error
        except Exception as error:  # a transport that broke, by its own class of errors
            raise self._broken(f"{name}: {_first_cause(error)}") from error

    def close(self) -> None:
        """End the connection, and the server where its command started it; twice is once."""
        if self.is_open:
            self.is_open = False
            if self._task is not None:
                with suppress(RuntimeError):  # the loop has ended by itself
                    self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(_CLOSING_S)
            self._said.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # the thread's end: whoever waits must hear of it
            if not self._ready.done():
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        """Hold the connection open until `close`; the SDK wants one task to open and close it."""
        from mcp import Client

        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with Client(self._target(), read_timeout_seconds=self.timeout_s) as client:
            self._client = client
            specs = await _list_tools(client)
            if not self._ready.done():
                self._ready.set_result(specs)
                await asyncio.Event().wait()  # until `close` cancels it

    def _target(self) -> Any:
        if isinstance(self.server, str):
            return self.server
        from mcp import StdioServerParameters, stdio_client

        command, *arguments = self.server
        return stdio_client(StdioServerParameters(command=command, args=arguments), self._said)

    def _broken(self, what: str) -> OutsideError:
        """Close, and say what happened and what the server said last."""
        self._said.seek(0)
        lines = self._said.read()[-2000:].strip().splitlines()
        self.close()
        server = self.server if isinstance(self.server, str) else " ".join(self.server)
        said = f"; it said last: {lines[-1]}" if lines else ""
        return OutsideError(f"MCP server {server}: {what}{said}")


async def _list_tools(client: Client) -> list[ToolSpec]:
    specs: list[ToolSpec] = []
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            schema = {"properties": {}, **tool.input_schema}
            about = (tool.description or "").strip().split("\n")[0]
            specs.append(ToolSpec(name=tool.name, description=about, parameters=schema))
        cursor = page.next_cursor
        if not cursor:
            return specs


def _text(result: CallToolResult) -> str:
    """The text parts of a result; other parts are named, so that nothing is lost silently."""
    parts = [part.text if part.type == "text" else f"({part.type})" for part in result.content]
    text = "\n".join(parts)
    if result.is_error:
        raise ToolError(text)
    return text


def _first_cause(error: BaseException) -> str:
    """What happened, out of the groups that task groups wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
