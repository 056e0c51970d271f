"""Turnhalle: an agent-environment gym for multi-turn reinforcement learning of language models.

`import turnhalle` is light: it registers the built-in environments with Gymnasium and loads neither
torch nor transformers. Public names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from turnhalle.envs.builtin import register_builtin

if TYPE_CHECKING:
    from turnhalle.envs.core import End as End
    from turnhalle.envs.core import Message as Message
    from turnhalle.envs.core import Reply as Reply
    from turnhalle.envs.core import ToolCall as ToolCall
    from turnhalle.envs.core import ToolSpec as ToolSpec
    from turnhalle.envs.core import parse_int as parse_int
    from turnhalle.envs.env import TextEnv as TextEnv
    from turnhalle.envs.errors import TurnhalleError as TurnhalleError
    from turnhalle.envs.registry import make as make
    from turnhalle.envs.registry import register as register
    from turnhalle.envs.registry import registered as registered
    from turnhalle.envs.rewards.base import Fixture as Fixture
    from turnhalle.envs.rewards.base import Reward as Reward
    from turnhalle.envs.rewards.base import Sample as Sample
    from turnhalle.envs.rewards.base import reward as reward
    from turnhalle.envs.rewards.catalogue import make_reward as make_reward
    from turnhalle.envs.rewards.first_of import FirstOf as FirstOf
    from turnhalle.envs.rewards.rubric import Rubric as Rubric
    from turnhalle.envs.tasks import Task as Task
    from turnhalle.envs.tools.formats import render_call as render_call
    from turnhalle.envs.tools.mcp import McpEnv as McpEnv
    from turnhalle.envs.tools.tool import ToolError as ToolError
    from turnhalle.envs.tools.tool import tool as tool
    from turnhalle.envs.tools.toolbox import ToolEnv as ToolEnv

__version__ = "0.1.0"

_HOMES = {
    "End": "envs.core",
    "FirstOf": "envs.rewards.first_of",
    "Fixture": "envs.rewards.base",
    "McpEnv": "envs.tools.mcp",
    "Message": "envs.core",
    "Reply": "envs.core",
    "Reward": "envs.rewards.base",
    "Rubric": "envs.rewards.rubric",
    "Sample": "envs.rewards.base",
    "Task": "envs.tasks",
    "TextEnv": "envs.env",
    "ToolCall": "envs.core",
    "ToolEnv": "envs.tools.toolbox",
    "ToolError": "envs.tools.tool",
    "ToolSpec": "envs.core",
    "TurnhalleError": "envs.errors",
    "make": "envs.registry",
    "make_reward": "envs.rewards.catalogue",
    "parse_int": "envs.core",
    "register": "envs.registry",
    "registered": "envs.registry",
    "render_call": "envs.tools.formats",
    "reward": "envs.rewards.base",
    "tool": "envs.tools.tool",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'turnhalle' has no attribute {name!r}")
    return getattr(importlib.import_module(f"turnhalle.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register_builtin()
