"""`McpEnv`: an environment whose tools live in an MCP server, over stdio or streamable HTTP.

Such a world is outside this process: it cannot be snapshot, and it may block.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, final

from ..core import ToolSpec
from ..errors import ConfigError
from .faults import Fault, FaultKind, clip
from .mcp_connection import McpConnection
from .tool import Tool
from .toolbox import ToolEnv

_KINDS = {
    "required": FaultKind.MISSING_ARGUMENT,
    "additionalProperties": FaultKind.EXTRA_ARGUMENT,
    "type": FaultKind.WRONG_TYPE,
}


class McpEnv(ToolEnv):
    """A tool environment on an MCP server; subclasses name it, and write tasks and `answer`.

    Class attributes: `server` (a URL, or the command of a stdio server), `offered` (names of the
    server's tools that the policy may call, None for all) and `timeout_s` (seconds for the
    connection and for each call). The connection opens with the first episode and stays open over
    episodes: `start` should bring the server's world back to where an episode begins.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 Gymnasium declares it so
        **ToolEnv.metadata,
        "snapshot": "none",
        "blocking": True,
    }
    system_prompt = ""
    server: str | Sequence[str] = ""
    offered: Sequence[str] | None = None
    timeout_s: float = 30.0

    _connection: McpConnection | None = None
    _mounted: Mapping[str, Tool]

    @final
    def call_server(self, name: str, /, **arguments: Any) -> str:
        """Call any tool of the server, offered or not: to set a task up, or to judge it.

        Raises:
            ToolError: The tool refuses.
            EnvError: The server is gone or too slow.
        """
        return self._open().call(name, arguments)

    def toolbox(self) -> Mapping[str, Tool]:
        """The class's own tools, and those of the server that are offered."""
        self._open()
        return self._mounted

    def close(self) -> None:
        """Close the connection; the next episode opens another."""
        if self._connection is not None:
            self._connection.close()
        super().close()

    def _open(self) -> McpConnection:
        # A server that died inside an episode took its world along: only an episode's start may
        # open another. Until then calls say that the connection is closed.
        is_inside = not self.is_over and self.turn > 0
        if self._connection is not None and (self._connection.is_open or is_inside):
            return self._connection
        connection = McpConnection(self.server, self.timeout_s)
        # An environment that is dropped without `close` must leave no thread and no process.
        weakref.finalize(self, connection.close)
        self._connection = connection
        self._mounted = self._mount(connection)
        return connection

    def _mount(self, connection: McpConnection) -> Mapping[str, Tool]:
        specs = {spec.name: spec for spec in connection.specs}
        offered = list(specs) if self.offered is None else self.offered
        if missing := [name for name in offered if name not in specs]:
            raise ConfigError(f"{self.id}: the server has no {missing}; it has {sorted(specs)}")
        if double := sorted(set(offered) & set(self._tools)):
            raise ConfigError(f"{self.id}: {double} are tools of the class and of the server")
        mounted = {name: _remote(specs[name], connection) for name in offered}
        return {**self._tools, **mounted}


def _remote(spec: ToolSpec, connection: McpConnection) -> Tool:
    """A tool that runs on the server; its arguments are checked here, by its JSON schema."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(spec.parameters)
    best_match: Any = jsonschema.exceptions.best_match

    def check(arguments: dict[str, Any]) -> dict[str, Any] | Fault:
        error = best_match(validator.iter_errors(arguments))
        if error is None:
            return arguments
        where = ".".join(str(part) for part in error.absolute_path)
        kind = _KINDS.get(str(error.validator), FaultKind.BAD_VALUE)
        text = f"{spec.name}: {where + ': ' if where else ''}{error.message}"
        return Fault(kind, clip(text, 200), spec.name)

    def run(**arguments: Any) -> str:
        return connection.call(spec.name, arguments)

    return Tool(spec, run, is_method=False, check=check)
