"""A Transformers cache for rows that come and go, all of which end at the same column.

    columns   first        …         clock
    row 0     own own own own own own
    row 1     ·   ·   own own own own    (shorter, or joined later; what stands before is masked)
Every step writes one column for all rows, in place. Rows that end are overwritten by the last ones;
columns at the left that no row needs fall out of view. For inference only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

GROWTH_COLUMNS = 64
"""The least number of free columns that a new buffer has."""


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Buffers [rows, heads, columns, d_head] for the keys and values of one block, of which the
    cache says what is in use.

    Under autocast they stand in its format, into which attention would otherwise cast all of them
    at every step."""

    def __init__(self, cache: SlotCache, states: tuple[Tensor, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        device = states[0].device.type
        cast = torch.is_autocast_enabled(device)
        self.dtype = torch.get_autocast_dtype(device) if cast else states[0].dtype
        self.device, self.is_initialized, self._cache = states[0].device, True, cache
        self.buffers = [
            torch.empty(0, s.shape[1], 0, s.shape[3], dtype=self.dtype, device=s.device)
            for s in states
        ]

    def get_seq_length(self) -> int:
        """Columns in view."""
        return self._cache.clock - self._cache.first

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes keys and values [rows, heads, 1, d_head] at the clock and returns all in view."""
        rows, first, clock = self._cache.num_rows, self._cache.first, self._cache.clock
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, clock : clock + 1] = states
        keys, values = (buffer[:rows, :, first : clock + 1] for buffer in self.buffers)
        return keys, values

    def relocate(self, rows: int, columns: int, shift: int) -> None:
        """Moves what is in view ``shift`` columns to the right, into buffers [rows, columns]."""
        view = slice(self._cache.first, self._cache.clock)
        moved = slice(view.start + shift, view.stop + shift)
        for index, old in enumerate(self.buffers):
            new = old.new_empty(rows, old.shape[1], columns, old.shape[3])
            new[: self._cache.num_rows, :, moved] = old[: self._cache.num_rows, :, view]
            self.buffers[index] = new

    def join(self, states: tuple[Tensor, Tensor], start: int) -> None:
        """Adds rows whose own columns begin at ``start`` and end at the clock. What is masked is
        zeroed, as it must be finite.
        """
        rows, first, clock = self._cache.num_rows, self._cache.first, self._cache.clock
        for buffer, new in zip(self.buffers, states, strict=True):
            buffer[:rows, :, start:first] = 0
            joined = buffer[rows : rows + len(new)]
            joined[:, :, first:start] = 0
            joined[:, :, start:clock] = new


class SlotCache:
    """The layers of all blocks and what they share: how many rows, where each one's own columns
    start, the columns in view.

    ``transformers_cache`` is what a backbone's forward takes."""

    def __init__(self) -> None:
        from transformers import DynamicCache

        self.starts: list[int] = []
        self.first = self.clock = 0
        self.transformers_cache: Any = DynamicCache()
        self._layers: list[SlotLayer] = []

    @property
    def num_rows(self) -> int:
        """Rows in use."""
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that fit."""
        keys = self._layers[0].buffers[0] if self._layers else torch.empty(0, 0, 0)
        return len(keys), keys.shape[2]

    def join(self, cache: Any, new_columns: int) -> None:
        """Takes over all rows of a Transformers cache, which is emptied; they will need up to
        ``new_columns`` more.
        """
        if not self._layers:
            self._layers = [SlotLayer(self, (layer.keys, layer.values)) for layer in cache.layers]
            self.transformers_cache.layers = self._layers
        joined, own = len(cache.layers[0].keys), cache.layers[0].keys.shape[2]
        (rows, columns), wanted = self.shape, self.num_rows + joined
        if not self.starts:
            self.first = self.clock = own
        if wanted > rows or not own <= self.clock <= columns:
            self._relocate(
                max(wanted, 2 * rows) if wanted > rows else rows,
                max(own, self.clock - self.first),
                new_columns,
            )
        start = self.clock - own
        for layer, prefilled in zip(self._layers, cache.layers, strict=True):
            layer.join((prefilled.keys, prefilled.values), start)
            prefilled.keys = prefilled.values = None
        self.starts += [start] * joined
        self.first = min(self.first, start)

    def before_step(self, new_columns: int) -> None:
        """Makes sure that one more column fits; where none does, up to ``new_columns`` will."""
        if self.clock == self.shape[1]:
            self._relocate(self.shape[0], self.clock - self.first, new_columns)

    def after_step(self) -> None:
        """Moves on to the next column."""
        self.clock += 1

    def _relocate(self, rows: int, width: int, new_columns: int) -> None:
        """Gives buffers of ``rows`` in which the columns in view end at ``width``."""
        shift = width - self.clock
        for layer in self._layers:
            layer.relocate(rows, width + max(new_columns, GROWTH_COLUMNS), shift)
        self.first, self.clock = self.first + shift, width
        self.starts = [start + shift for start in self.starts]

    def remove(self, rows: Sequence[int]) -> list[int]:
        """Takes rows out; returns for each row that stays, in its new order, where it stood."""
        gone = set(rows)
        kept = self.num_rows - len(gone)
        holes = [row for row in sorted(gone) if row < kept]
        sources = [row for row in range(kept, self.num_rows) if row not in gone]
        view = slice(self.first, self.clock)
        for buffer in (buffer for layer in self._layers for buffer in layer.buffers):
            if holes:
                buffer[holes, :, view] = buffer[sources, :, view]
        order = list(range(kept))
        for hole, source in zip(holes, sources, strict=True):
            order[hole] = source
        self.starts = [self.starts[row] for row in order]
        self.first = min(self.starts, default=self.clock)
        return order

    def positions(self, device: Any) -> Tensor:
        """Position of the token that the next step writes, in its own text; [rows, 1]."""
        return self.clock - torch.tensor(self.starts, device=device).unsqueeze(1)

    def mask(self, device: Any) -> Tensor | None:
        """Which columns in view each row reads in the next step, bool [rows, columns]; None where
        all read all.
        """
        if max(self.starts) == self.first:
            return None
        starts = torch.tensor(self.starts, device=device).unsqueeze(1)
        return torch.arange(self.first, self.clock + 1, device=device) >= starts
