"""The space of text: any Unicode string within length bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Space

_SAMPLE_ALPHABET = (
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!+-*/=(){}\"'\n"
)
_SAMPLE_WIDE = "äßé漢字🙂Ωя‰→\u200b"
_SAMPLE_LENGTH = 64


class UnicodeText(Space[str]):
    """All strings of `min_length` to `max_length` characters, whatever the characters.

    Gymnasium's `Text` holds a character set in memory and rejects what lies outside it
    (by default even a space), so it can hold neither a question nor a model's answer.
    Samples are short and mostly ASCII with some wider characters.
    """

    def __init__(
        self,
        max_length: int = 1_000_000,
        *,
        min_length: int = 0,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not 0 <= min_length <= max_length:
            raise ValueError(
                f"need 0 <= min_length <= max_length, got {min_length} and {max_length}"
            )
        self.min_length = min_length
        self.max_length = max_length
        super().__init__(dtype=str, seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a random string; masks are refused because the space has no finite alphabet.

        Raises:
            ValueError: There is a mask or a probability.
        """
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText takes neither a mask nor a probability")
        upper = min(self.max_length, max(self.min_length, _SAMPLE_LENGTH))
        length = int(self.np_random.integers(self.min_length, upper + 1))
        alphabet = _SAMPLE_ALPHABET + _SAMPLE_WIDE
        return "".join(alphabet[i] for i in self.np_random.integers(0, len(alphabet), length))

    def contains(self, x: Any) -> bool:
        """True for strings within the length bounds."""
        return isinstance(x, str) and self.min_length <= len(x) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        """False: there is no fixed-size array that holds every member."""
        return False

    def __repr__(self) -> str:
        return f"UnicodeText({self.min_length}, {self.max_length})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UnicodeText)
            and self.min_length == other.min_length
            and self.max_length == other.max_length
        )
