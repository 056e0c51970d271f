"""What stands before a call and is no part of it."""

from __future__ import annotations

from collections.abc import Sequence


def before_words(text: str, words: Sequence[str]) -> str:
    """A text without the words that a template writes before a call, as many as are there."""
    text = text.rstrip()
    for word in reversed(words):
        if not text.endswith(word):
            break
        text = text.removesuffix(word).rstrip()
    return text.strip()
