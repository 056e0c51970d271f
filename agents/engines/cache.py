"""A key-value cache with one row a session, which grows by appending and is never moved by a turn.

Rows are right-padded: what lies behind a row's length is garbage that its next append overwrites,
and the mask hides it. That lets rows of any length share one forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache

GROWTH = 64
"""Capacity in tokens grows in steps of this, so that appending rarely reallocates."""
_SPARE = 16
"""And in rows, where forks ask for one after the other."""


class SlotCache(Cache):
    """Keys and values `[S, KV heads, L, D]` a layer; transformers calls `update` on each layer."""

    def __init__(self, num_layers: int) -> None:
        # Not `super().__init__()`: its layer objects know one length for all rows, ours have many.
        self.keys: list[torch.Tensor | None] = [None] * num_layers
        self.values: list[torch.Tensor | None] = [None] * num_layers
        self._rows: torch.Tensor | None = None
        self._positions: torch.Tensor = torch.empty(0)
        self._width = 0
        self._span = 0

    @property
    def length(self) -> int:
        """Tokens that a row has room for."""
        return 0 if self.keys[0] is None else self.keys[0].shape[2]

    def select(
        self, rows: torch.Tensor | None, positions: torch.Tensor, width: int, span: int
    ) -> None:
        """Say what the next forward pass appends where.

        Args:
            rows: `[B]` the slots that take part, or None for the first `width` in order.
            positions: `[B, Q]` where the new tokens go.
            width: Number of slots that must exist.
            span: Number of leading positions that attention reads.
        """
        self._rows, self._positions = rows, positions
        self._width, self._span = width, span

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
        states = states.transpose(1, 2)
        if self._rows is None:
            rows = torch.arange(len(states), device=states.device)
            tensor[rows[:, None], :, self._positions] = states
            return tensor[: len(states), :, : self._span]
        tensor[self._rows[:, None], :, self._positions] = states
        return tensor[self._rows, :, : self._span]

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
        length = -(-length // GROWTH) * GROWTH
        new = like.new_zeros(slots, heads, length, dim)
        if old is not None:
            new[: old.shape[0], :, : old.shape[2]] = old
        store[layer] = new
        return new
