"""Conversations to tokens: the only package that knows chat templates and owns token ids."""

from .chat import Chat as Chat
from .chat import load_chat as load_chat
from .conversation import Conversation as Conversation
from .options import ChatOptions as ChatOptions
from .template import CHATML as CHATML
from .template import PLAIN as PLAIN
