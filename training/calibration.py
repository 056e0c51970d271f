"""Text of one's own to measure a policy on: chats, or plain text."""

from __future__ import annotations

from pathlib import Path

from turnhalle.agents.chat import Chat
from turnhalle.agents.quantization.yardstick import Passage
from turnhalle.envs.errors import DataError

from .chats import read_chats
from .demos import to_example

_PASSAGE_TOKENS = 512
"""Of plain text; less where that would leave less than two."""

_LEAST_TOKENS = 8


def read_passages(path: Path, chat: Chat, max_context: int) -> list[Passage]:
    """The passages of a file.

    Args:
        path: `.jsonl` with a chat a line, of which the assistant's tokens count; anything else is
            plain text, cut into passages of which every token counts.
        chat: How the model is spoken to.
        max_context: Most tokens of a passage; what is longer is cut.

    Raises:
        DataError: No such file, one that is no text or less than two passages, or a line that is no
            chat.
    """
    if not path.is_file():
        raise DataError(f"no file {path}")
    if path.suffix == ".jsonl":
        examples = [to_example(demo, chat, imitate_mistakes=True) for demo in read_chats(path)]
        passages = [Passage(e.token_ids[:max_context], e.is_action[:max_context]) for e in examples]
    else:
        try:
            ids = chat.template.encode(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no text in UTF-8: byte {error.start} is none") from error
        length = min(_PASSAGE_TOKENS, max_context, max(_LEAST_TOKENS, -(-len(ids) // 2)))
        pieces = [ids[start : start + length] for start in range(0, len(ids), length)]
        passages = [Passage(piece, [True] * len(piece)) for piece in pieces]
    if len(passages) < 2:
        raise DataError(
            f"{path} has less than two passages; one half chooses what to keep, the other measures"
        )
    return passages
