"""Tool use: formats of calls, environments that are acted on through tools."""
