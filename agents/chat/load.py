"""The chat of a model that is given by name."""

from __future__ import annotations

from ..models import load_tokenizer, read_settings
from .chat import Chat
from .options import ChatOptions


def load_chat(name: str, options: ChatOptions) -> Chat:
    """The chat of a model, by the options given and its folder's settings; reads no weights.

    Raises:
        ModelError: No such model, or one that cannot be spoken to token-exactly.
    """
    return Chat(load_tokenizer(name), options.over(read_settings(name)), name)
