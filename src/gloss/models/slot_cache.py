"""A Transformers cache for rows that come and go, all of which end at the same column.

    columns   first        …         clock
    row 0     own own own own own own
    row 1     ·   ·   own own own own    (shorter, or joined later; what stands before is masked)
Every step writes one column for all rows, in place. Rows that end are overwritten by the last ones;
columns at the left that no row needs fall out of view. For inference only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from gloss.models.prefix import SharedPrefix

GROWTH_COLUMNS = 64
"""The least number of free columns that new buffers have."""


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Buffers [rows, heads, columns, d_head] for the keys and values of one block; which part of
    them is in use says the cache.

    Under autocast they stand in its format, into which attention would otherwise cast all of them
    at every step."""

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized, self._cache = True, cache
        self.buffers: list[Tensor] = []

    def get_seq_length(self) -> int:
        """Columns in view."""
        return self._cache.written - self._cache.shown

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes keys and values [rows or 1, heads, columns, d_head] and returns all in view."""
        cache, states = self._cache, (key_states, value_states)
        if not self.buffers:
            device = key_states.device.type
            cast = torch.is_autocast_enabled(device)
            dtype = torch.get_autocast_dtype(device) if cast else key_states.dtype
            rows, columns = cache.capacity
            self.buffers = [
                s.new_empty(rows, s.shape[1], columns, s.shape[3], dtype=dtype) for s in states
            ]
        end = cache.written + key_states.shape[2]
        for buffer, new in zip(self.buffers, states, strict=True):
            buffer[cache.active, :, cache.written : end] = new
        keys, values = (buffer[cache.active, :, cache.shown : end] for buffer in self.buffers)
        return keys, values


class SlotCache:
    """The layers of all blocks and what they share.

    ``starts`` says at which column each row starts. A forward pass over ``transformers_cache``
    reads and writes the rows ``active`` from column ``shown`` on, of which those before ``written``
    are there."""

    def __init__(self) -> None:
        from transformers import DynamicCache

        self.starts: list[int] = []
        self.first = self.clock = 0
        self.capacity = (0, 0)
        self.active, self.shown, self.written = slice(0), 0, 0
        self.transformers_cache: Any = DynamicCache()
        self.transformers_cache.layer_class_to_replicate = partial(SlotLayer, self)  # type: ignore[assignment]

    @property
    def buffers(self) -> list[Tensor]:
        """Keys and values of all blocks."""
        return [buffer for layer in self.transformers_cache.layers for buffer in layer.buffers]

    @contextmanager
    def joining(
        self, prefix: SharedPrefix, count: int, tokens: int, new_columns: int
    ) -> Iterator[None]:
        """While active, a forward pass writes ``tokens`` of each of ``count`` rows that join behind
        a prefix; they will need up to ``new_columns`` more."""
        num_rows, own = len(self.starts), prefix.num_tokens + tokens
        (rows, columns), wanted = self.capacity, num_rows + count
        if not num_rows:
            self.first = self.clock = own
        if wanted > rows or not own <= self.clock <= columns:
            rows = max(wanted, 2 * rows) if wanted > rows else rows
            self._relocate(rows, max(own, self.clock - self.first), new_columns)
        start, self.active = self.clock - own, slice(num_rows, wanted)
        for buffer in self.buffers:  # what is masked must be finite
            buffer[:num_rows, :, start : self.first] = 0
            buffer[self.active, :, self.first : start] = 0
        self.shown = self.written = start
        for block, (keys, values) in enumerate(prefix.keys_values):
            self.transformers_cache.update(keys, values, block)
        self.written += prefix.num_tokens
        yield
        self.starts += [start] * count
        self.first = min(self.first, start)

    @contextmanager
    def stepping(self, new_columns: int) -> Iterator[None]:
        """While active, a forward pass writes one more token of every row."""
        if self.clock == self.capacity[1]:
            self._relocate(self.capacity[0], self.clock - self.first, new_columns)
        self.active, self.shown, self.written = slice(len(self.starts)), self.first, self.clock
        yield
        self.clock += 1

    def _relocate(self, rows: int, width: int, new_columns: int) -> None:
        """Moves all to buffers of ``rows`` in which the columns in use end at ``width``."""
        num_rows, used = len(self.starts), self.clock - self.first
        self.capacity = (rows, width + max(new_columns, GROWTH_COLUMNS))
        for layer in self.transformers_cache.layers:
            for index, old in enumerate(layer.buffers):
                new = old.new_empty(rows, old.shape[1], self.capacity[1], old.shape[3])
                new[:num_rows, :, width - used : width] = old[:num_rows, :, self.first : self.clock]
                layer.buffers[index] = new
        self.starts = [start + width - self.clock for start in self.starts]
        self.first, self.clock = width - used, width

    def remove(self, rows: Sequence[int]) -> list[int]:
        """Takes rows out; returns for each row that stays, in its new order, where it stood."""
        gone, num_rows = set(rows), len(self.starts)
        kept = num_rows - len(gone)
        holes = [row for row in sorted(gone) if row < kept]
        sources = [row for row in range(kept, num_rows) if row not in gone]
        if holes:
            for buffer in self.buffers:
                used = buffer[:, :, self.first : self.clock]
                used[holes] = used[sources]
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
        all read all."""
        if max(self.starts) == self.first:
            return None
        starts = torch.tensor(self.starts, device=device).unsqueeze(1)
        return torch.arange(self.first, self.clock + 1, device=device) >= starts
