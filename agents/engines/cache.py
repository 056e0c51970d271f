"""A key-value cache with one row a session, which grows by appending and is never moved by a turn.

Rows are right-padded: what lies behind a row's length is garbage that its next append overwrites,
and the mask hides it. That lets rows of any length share one forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

_LEAST_GROWTH = 16
"""Capacity grows by so many tokens, or by a sixteenth to a thirty-second. Room to spare is read
past at every token: attention to 137 tokens with room for 192 takes half as long again as with room
for 144 (64 rows, a cache larger than L3)."""
_SPARE = 16
"""And in rows, where forks ask for one after the other."""


def capacity(length: int) -> int:
    """Tokens that a row has room for once it holds so many."""
    step = max(_LEAST_GROWTH, 1 << max(0, length.bit_length() - 6))
    return -(-length // step) * step


class SlotCache(Cache):
    """Keys and values `[S, KV heads, L, D]` a layer; transformers calls `update` on each layer."""

    def __init__(self, num_layers: int) -> None:
        # Not `super().__init__()`: its layer objects know one length for all rows, ours have many.
        self.keys: list[torch.Tensor | None] = [None] * num_layers
        self.values: list[torch.Tensor | None] = [None] * num_layers
        self._rows: torch.Tensor | slice = slice(0, 0)
        self._positions: torch.Tensor = torch.empty(0)
        self._index: dict[tuple[int, int], torch.Tensor] = {}
        self._width = 0
        self._span = 0

    @property
    def length(self) -> int:
        """Tokens that a row has room for."""
        return 0 if self.keys[0] is None else self.keys[0].shape[2]

    def select(
        self, rows: torch.Tensor | slice, positions: torch.Tensor, width: int, span: int
    ) -> None:
        """Say what the next forward pass appends where.

        Args:
            rows: The slots that take part: `[B]`, or a range of them, of which nothing is copied.
            positions: `[B, Q]` where the new tokens go.
            width: Number of slots that must exist.
            span: Number of leading positions that attention reads.
        """
        self._rows, self._positions = rows, positions
        self._width, self._span = width, span
        self._index.clear()

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append `[B, KV, Q, D]` to the selected rows; returns what they attend to."""
        keys = self._write(self.keys, key_states, layer_idx)
        values = self._write(self.values, value_states, layer_idx)
        return keys, values

    def copy(self, source: int, targets: list[int], length: int) -> None:
        """Copy the first `length` positions of one row to others, which may be new."""
        slots = -(-(max(targets) + 1) // _SPARE) * _SPARE
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):
                if tensor is not None and max(targets) >= len(tensor):
                    tensor = self._grown(store, layer, tensor, slots)
                if tensor is not None:
                    # A copy of the source: where it fills its row, torch refuses the overlap.
                    tensor[targets, :, :length] = tensor[source, :, :length].clone()

    def move(self, sources: list[int]) -> None:
        """Make `sources`, in ascending order, the first rows, and let the rest go."""
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):
                if tensor is not None:
                    # Slots that nothing was written to yet have no row; they come last.
                    rows = [source for source in sources if source < len(tensor)]
                    store[layer] = tensor[rows].contiguous()

    def clear(self) -> None:
        """Free the memory."""
        self.keys = [None] * len(self.keys)
        self.values = [None] * len(self.values)

    def __repr__(self) -> str:
        return f"SlotCache({len(self.keys)} layers)"

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Unused: positions and masks are always passed explicitly."""
        return self._span

    def _write(
        self, store: list[torch.Tensor | None], states: torch.Tensor, layer: int
    ) -> torch.Tensor:
        tensor = self._grown(store, layer, states, self._width)
        _, heads, length, dim = tensor.shape
        index = self._index.get((heads, length))
        if index is None:
            index = self._index[heads, length] = self._places(heads, length)
        tensor.view(-1, dim).index_copy_(0, index, states.reshape(-1, dim))
        return tensor[self._rows][:, :, : self._span]

    def _places(self, heads: int, length: int) -> torch.Tensor:
        """`[B * heads * Q]` where the new tokens go, among all heads' positions of all slots."""
        device = self._positions.device
        if isinstance(self._rows, slice):
            rows = torch.arange(self._rows.start, self._rows.stop, device=device)
        else:
            rows = self._rows
        row = rows[:, None] * heads + torch.arange(heads, device=device)
        return (row[:, :, None] * length + self._positions[:, None, :]).flatten()

    def _grown(
        self, store: list[torch.Tensor | None], layer: int, like: torch.Tensor, slots: int
    ) -> torch.Tensor:
        """The tensor of a layer, `[S, KV heads, L, D]` like another, with room for what comes."""
        old = store[layer]
        _, heads, _, dim = like.shape
        slots = max(slots, 0 if old is None else old.shape[0])
        length = max(self._span, 0 if old is None else old.shape[2])
        if old is not None and (slots, length) == (old.shape[0], old.shape[2]):
            return old
        length = capacity(length)
        new = like.new_zeros(slots, heads, length, dim)
        if old is not None:
            new[: old.shape[0], :, : old.shape[2]] = old
        store[layer] = new
        return new
