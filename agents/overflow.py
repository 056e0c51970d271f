"""Observations that do not fit into what is left of a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from turnhalle.envs.core import Message

from .limits import shorten

_FEWEST_CHARS = 32
"""An observation of which less is left says nothing; the episode ends instead."""


def fit(
    messages: Sequence[Message], render: Callable[[Sequence[Message]], list[int]], room: int
) -> Sequence[Message]:
    """An observation, the middle of its longest messages left out where it must be.

    Args:
        messages: What the environment answered.
        render: Their token ids.
        room: Most tokens there may be.

    Returns:
        Messages of at most `room` tokens; of more where not even a few words of them fit.
    """
    cut, num_tokens = messages, len(render(messages))
    chars = max((len(message.content) for message in messages), default=0)
    while num_tokens > room and chars > _FEWEST_CHARS:
        # A little less than in proportion: the marker takes room too.
        chars = max(_FEWEST_CHARS, min(chars - 1, int(0.9 * chars * max(room, 0) / num_tokens)))
        cut = [m.model_copy(update={"content": shorten(m.content, chars)}) for m in messages]
        num_tokens = len(render(cut))
    return cut
