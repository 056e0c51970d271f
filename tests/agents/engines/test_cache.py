"""Keys and values of sessions, row by row."""

from __future__ import annotations

import torch

from turnhalle.agents.engines.cache import GROWTH, SlotCache


def test_a_row_without_room_to_spare_is_copied_too() -> None:
    cache = SlotCache(1)
    states = torch.randn(4, 2, GROWTH, 8)
    cache.select(None, torch.arange(GROWTH).expand(4, -1), 4, GROWTH)
    cache.update(states, 2 * states, 0)
    cache.copy(1, [0, 3], GROWTH)
    for store, written in ((cache.keys, states), (cache.values, 2 * states)):
        assert torch.equal(store[0], written[[1, 1, 2, 1]])
