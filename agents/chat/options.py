"""How a model is spoken to: options of chats, checked."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnhalle.envs.errors import ConfigError, ModelError

HistoryKind = Literal["append", "as-template", "window", "summarise"]


class ChatOptions(BaseModel):
    """How a model is spoken to; what is None is as the model's folder says in `turnhalle.json`."""

    model_config = ConfigDict(extra="forbid")

    system_prompt: str | None = None
    """Replaces the environment's rules; an empty text leaves them out."""
    chat_template: str | None = None
    """A Jinja file, "chatml" or "plain", in place of the tokenizer's own."""
    tool_format: str | None = None
    """How the model writes tool calls: "hermes", "llama3", "mistral" or "compact"; else the
    template's own way where it has one, and "hermes" where it has none."""
    template_options: dict[str, Any] | None = None
    """Variables for the template, such as {enable_thinking = false}."""
    date: datetime.date | None = None
    """The day that templates which tell the date are told; None is the day the chat is opened."""
    history: HistoryKind | None = None
    """What the model sees of its earlier turns: "append" (as they were sampled), "as-template" (as
    the template writes them down), "window" (the last `window` turns only) or "summarise" (what
    the model itself wrote down of them). None is "append" where the template keeps what was said,
    "as-template" where it rewrites it."""
    window: int | None = Field(None, ge=0)
    """Number of turns that "window" keeps."""
    summarise_above: int | None = Field(None, ge=1)
    """Tokens of context from which on "summarise" asks for a summary."""

    def check(self) -> None:
        """Refuse combinations that mean nothing.

        Raises:
            ConfigError: Says which, and the fix.
        """
        for kind, key in (("window", "window"), ("summarise", "summarise_above")):
            is_given = getattr(self, key) is not None
            if self.history == kind and not is_given:
                raise ConfigError(f'chat.history="{kind}" needs a number: --set chat.{key}=...')
            if self.history != kind and is_given:
                raise ConfigError(
                    f'chat.{key} is for chat.history="{kind}", which is {self.history or "not set"}'
                )

    def over(self, settings: dict[str, Any]) -> ChatOptions:
        """These options, completed by the settings of a model's folder.

        Raises:
            ModelError: The settings hold an unknown key.
        """
        known = {k: v for k, v in settings.items() if k in type(self).model_fields}
        if unknown := settings.keys() - known.keys():
            raise ModelError(f"turnhalle.json of the model: unknown {', '.join(sorted(unknown))}")
        if self.history is not None:  # the folder's numbers are for the folder's policy
            known = {k: v for k, v in known.items() if k not in ("window", "summarise_above")}
        return ChatOptions(**(known | self.model_dump(exclude_none=True)))
