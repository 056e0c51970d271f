"""Seeds by hash: every random stream is named by what it is for, so no two can meet by accident."""

from __future__ import annotations

import hashlib
import json
import random

# `json.dumps` builds an encoder at every call, a tenth of a reset.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def derive_seed(*parts: str | int) -> int:
    """Hash `parts` to a 63-bit seed; equal parts give equal seeds on every machine and process."""
    text = _encode(parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def hash_position(text: str) -> float:
    """Where a text falls in [0, 1) by its hash: what splits by content are cut by."""
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def derive_rng(*parts: str | int) -> random.Random:
    """A `random.Random` of its own, seeded by `derive_seed`; global RNGs are never touched."""
    return random.Random(derive_seed(*parts))
