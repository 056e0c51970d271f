"""Quoting what a policy wrote for another model, so that it is data there and no instruction.

The delimiters carry a mark that is a hash of all that is quoted, so no quoted text can contain it
(it would have to contain its own hash), and yet equal quotes give equal prompts, which a cache can
answer. A model may still be persuaded by what it reads; but it cannot be shown a false end of the
quote, and a verdict that the text itself contains does not bear the mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def as_utf8(text: str) -> str:
    """The text with lone surrogates replaced: a policy may write them, UTF-8 cannot hold them."""
    return text.encode(errors="replace").decode()


def quote(texts: Mapping[str, str], *context: str) -> tuple[str, str]:
    """Quote texts by label; returns the mark and the quoted block.

    `context` is what else the mark shall depend on: the rules, the name of the asker.
    """
    content = repr((sorted(texts.items()), context))
    mark = ""
    for attempt in range(1000):
        digest = hashlib.blake2b(f"{attempt}{content}".encode(errors="replace"), digest_size=12)
        mark = digest.hexdigest()
        if not any(mark in text for text in texts.values()):
            break
    blocks = [f"<{label} {mark}>\n{text}\n</{label} {mark}>" for label, text in texts.items()]
    return mark, "\n".join(blocks)
