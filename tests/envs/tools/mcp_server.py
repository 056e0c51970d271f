"""A real MCP server for the tests: notes, and tools that fail in their own ways."""

from __future__ import annotations

import os
import sys
import time

from mcp.server import MCPServer

server = MCPServer("notes")
noted: list[str] = []


@server.tool()
def restart() -> str:
    """Forget everything."""
    noted.clear()
    return "ready"


@server.tool()
def note(text: str, times: int = 1) -> str:
    """Write something down.

    As often as asked.
    """
    noted.extend([text] * times)
    return f"{len(noted)} notes"


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no ink")


@server.tool()
def sleep(seconds: float) -> str:
    """Take long."""
    time.sleep(seconds)
    return "awake"


@server.tool()
def die() -> str:
    """End the server."""
    print("out of paper", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
