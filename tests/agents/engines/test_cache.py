"""Keys and values of sessions, row by row."""

from __future__ import annotations

import torch

from turnhalle.agents.engines.cache import SlotCache, capacity


def test_a_row_without_room_to_spare_is_copied_too() -> None:
    cache, full = SlotCache(1), capacity(16)
    states = torch.randn(4, 2, full, 8)
    cache.select(slice(0, 4), torch.arange(full).expand(4, -1), 4, full)
    cache.update(states, 2 * states, 0)
    cache.copy(1, [0, 3], full)
    for store, written in ((cache.keys, states), (cache.values, 2 * states)):
        assert torch.equal(store[0], written[[1, 1, 2, 1]])


def test_some_rows_are_written_and_read_whether_they_are_neighbours_or_not() -> None:
    cache = SlotCache(1)
    states = torch.randn(4, 2, 5, 8)
    cache.select(slice(0, 4), torch.arange(5).expand(4, -1), 4, 5)
    cache.update(states, states, 0)
    more = torch.randn(2, 2, 2, 8)
    positions = torch.tensor([[5, 6], [3, 4]])
    for rows in (torch.tensor([0, 2]), slice(1, 3)):
        where = torch.arange(4)[rows]
        cache.select(rows, positions, 4, 7)
        keys, _ = cache.update(more, more, 0)
        assert torch.equal(keys[0, :, 5:7], more[0])
        assert torch.equal(keys[1, :, 3:5], more[1])
        assert torch.equal(keys[0, :, :5], states[where[0]])
        assert torch.equal(keys, cache.keys[0][where, :, :7])  # type: ignore[index]


def test_the_room_of_a_row_grows_by_a_small_share() -> None:
    for length in range(1, 5000):
        room = capacity(length)
        assert length <= room <= max(length + 15, 17 / 16 * length)
        assert capacity(room) == room
