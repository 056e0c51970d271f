"""Conversations to tokens: the only package that knows chat templates and owns token ids."""

from .chat import Chat as Chat
from .conversation import Conversation as Conversation
from .load import load_chat as load_chat
from .messages import Spoken as Spoken
from .options import ChatOptions as ChatOptions
from .template import CHATML as CHATML
from .template import PLAIN as PLAIN
