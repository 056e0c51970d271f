"""Seeds are hashes of what `json.dumps` writes: they never change."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from turnhalle.envs.seeding import derive_seed


@given(st.lists(st.one_of(st.text(), st.integers())))
def test_a_seed_is_the_hash_of_the_json_of_its_parts(parts: list[str | int]) -> None:
    text = json.dumps(parts, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    assert derive_seed(*parts) == int.from_bytes(digest, "big") >> 1
