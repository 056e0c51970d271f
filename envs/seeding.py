"""Seeds by hash: every random stream is named by what it is for, so no two can meet by accident."""

from __future__ import annotations

import hashlib
import random
from json.encoder import encode_basestring_ascii as _quoted


def derive_seed(*parts: str | int) -> int:
    """Hash `parts` to a 63-bit seed; equal parts give equal seeds on every machine and process."""
    # What `json.dumps` writes, without the encoder that it builds: a tenth of a reset.
    text = f"[{','.join([_quoted(p) if isinstance(p, str) else int.__repr__(p) for p in parts])}]"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def hash_position(text: str) -> float:
    """Where a text falls in [0, 1) by its hash: what splits by content are cut by."""
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def derive_rng(*parts: str | int) -> random.Random:
    """A `random.Random` of its own, seeded by `derive_seed`; global RNGs are never touched."""
    return random.Random(derive_seed(*parts))
