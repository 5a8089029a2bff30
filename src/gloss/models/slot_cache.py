"""A Transformers cache for rows that come and go: prompts share columns on the left, what each row
wrote ends at the same column.

    columns   0 … P          …          clock
    row 0     prefix  · · ·  own own own own
    row 1     prefix  · · ·  · · own own own    (joined later; the gap is masked)
Every step writes one column for all rows. Rows that leave are overwritten by the last ones; columns
that no row needs are closed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

GROWTH_COLUMNS = 64
"""Columns by which the room grows, and the least that closing up must win."""


class SlotLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values [rows, heads, columns, d_head] of one block, views of larger buffers. For
    inference only.
    """

    def __init__(self, prefix_and_new: tuple[Tensor, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        keys, values = prefix_and_new
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._rooms = [
            states.new_zeros(0, states.shape[1], 0, states.shape[3]) for states in (keys, values)
        ]
        self.num_rows = self.clock = 0
        self.show()

    @property
    def num_columns(self) -> int:
        """Columns that fit."""
        return int(self._rooms[0].shape[2])

    def make_room(self, rows: int, columns: int) -> None:
        """Lets ``rows`` × ``columns`` fit; what is new is zero, as a masked column must be
        finite.
        """
        for index, room in enumerate(self._rooms):
            if rows > room.shape[0] or columns > room.shape[2]:
                larger = room.new_zeros(
                    max(rows, room.shape[0]),
                    room.shape[1],
                    max(columns, room.shape[2]),
                    room.shape[3],
                )
                larger[: self.num_rows, :, : self.clock] = room[: self.num_rows, :, : self.clock]
                self._rooms[index] = larger

    def join(self, states: tuple[Tensor, Tensor], prefix_columns: int) -> None:
        """Adds rows whose own columns end at the clock; states [rows, heads, prefix + own,
        d_head].
        """
        joined = self.num_rows + len(states[0])
        own = states[0].shape[2] - prefix_columns
        for room, new in zip(self._rooms, states, strict=True):
            slots = room[self.num_rows : joined]
            slots[:, :, :prefix_columns] = new[:, :, :prefix_columns]
            slots[:, :, prefix_columns : self.clock - own] = 0
            slots[:, :, self.clock - own : self.clock] = new[:, :, prefix_columns:]
        self.num_rows = joined
        self.show()

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes keys and values [rows, heads, 1, d_head] at the clock, which moves on, and returns
        all.
        """
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[: self.num_rows, :, self.clock : self.clock + 1] = states
        self.clock += 1
        return self.show()

    def move_rows(self, sources: Sequence[int], holes: Sequence[int], num_rows: int) -> None:
        """Copies rows ``sources`` over ``holes`` and keeps the first ``num_rows``."""
        if sources:
            for room in self._rooms:
                room[list(holes), :, : self.clock] = room[list(sources), :, : self.clock]
        self.num_rows = num_rows
        self.show()

    def close_up(self, first: int, count: int) -> None:
        """Takes out ``count`` columns from ``first`` on."""
        for room in self._rooms:
            kept = room[: self.num_rows, :, first + count : self.clock].clone()
            room[: self.num_rows, :, first : self.clock - count] = kept
        self.clock -= count
        self.show()

    def show(self) -> tuple[Tensor, Tensor]:
        """The written part of the buffers, also where Transformers looks for it."""
        keys, values = (room[: self.num_rows, :, : self.clock] for room in self._rooms)
        self.keys, self.values = keys, values
        return keys, values


class SlotCache:
    """The layers of all blocks and the bookkeeping of rows: where each row's own columns begin.

    ``prefix_columns`` are shared by every row. ``transformers_cache`` is what a backbone's forward
    takes."""

    def __init__(self, prefix_columns: int) -> None:
        from transformers import DynamicCache

        self.prefix_columns, self.starts = prefix_columns, list[int]()
        self.transformers_cache: Any = DynamicCache()
        self._layers: list[SlotLayer] = []

    @property
    def clock(self) -> int:
        """The column that the next step writes."""
        return self._layers[0].clock if self._layers else 0

    def join(self, cache: Any, own_columns: int) -> None:
        """Takes over the rows of a Transformers cache that holds the prefix and ``own_columns``
        more of each.
        """
        states = [(layer.keys, layer.values) for layer in cache.layers]
        if not self._layers:
            self._layers = [SlotLayer(pair) for pair in states]
            self.transformers_cache.layers = self._layers
        if not self.starts:
            for layer in self._layers:
                layer.clock = 0
        clock = max(self.clock, self.prefix_columns + own_columns)
        joined = len(states[0][0])
        for layer, pair in zip(self._layers, states, strict=True):
            layer.make_room(len(self.starts) + joined, clock + 1)
            layer.clock = clock
            layer.join(pair, self.prefix_columns)
        self.starts += [clock - own_columns] * joined

    def before_step(self) -> None:
        """Makes sure that one more column fits: closes up the gap where that wins enough, else
        grows.
        """
        gap = min(self.starts) - self.prefix_columns
        for layer in self._layers:
            if gap >= GROWTH_COLUMNS:
                layer.close_up(self.prefix_columns, gap)
            if layer.clock == layer.num_columns:
                layer.make_room(layer.num_rows, layer.clock + GROWTH_COLUMNS)
        if gap >= GROWTH_COLUMNS:
            self.starts = [start - gap for start in self.starts]

    def leave(self, rows: Sequence[int]) -> list[int]:
        """Lets rows go; returns for each row that stays, in its new order, where it stood."""
        gone = set(rows)
        kept = len(self.starts) - len(gone)
        holes = [row for row in sorted(gone) if row < kept]
        sources = [row for row in range(kept, len(self.starts)) if row not in gone]
        for layer in self._layers:
            layer.move_rows(sources, holes, kept)
        order = list(range(kept))
        for hole, source in zip(holes, sources, strict=True):
            order[hole] = source
        self.starts = [self.starts[row] for row in order]
        return order

    def positions(self, device: Any) -> Tensor:
        """Position of the token that the next step writes, in its own text; [rows, 1]."""
        return (
            self.clock - torch.tensor(self.starts, device=device).unsqueeze(1) + self.prefix_columns
        )

    def mask(self, device: Any) -> Tensor | None:
        """Which columns each row reads in the next step, bool [rows, clock + 1]; None where all
        read all.
        """
        if max(self.starts) == self.prefix_columns:
            return None
        columns = torch.arange(self.clock + 1, device=device)
        starts = torch.tensor(self.starts, device=device).unsqueeze(1)
        return (columns < self.prefix_columns) | (columns >= starts)
