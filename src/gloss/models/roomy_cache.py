"""A Transformers cache layer with room for what is still to come: keys and values are written in
place, never concatenated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values [batch, heads, tokens, d_head], views of larger buffers. For inference
    only.
    """

    def __init__(self, key_room: Tensor, value_room: Tensor, num_tokens: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device, self.is_initialized = key_room.dtype, key_room.device, True
        self._rooms, self._num_tokens = (key_room, value_room), num_tokens
        self._show()

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes new keys and values [batch, heads, new tokens, d_head] behind the old ones and
        returns all.
        """
        last = self._num_tokens + key_states.shape[-2]
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[:, :, self._num_tokens : last] = states
        self._num_tokens = last
        return self._show()

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the rows ``indices``, which ascend, in place."""
        kept = []
        for room in self._rooms:
            written = room[:, :, : self._num_tokens]
            written[: len(indices)] = written[indices]
            kept.append(room[: len(indices)])
        self._rooms = (kept[0], kept[1])
        self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (room[:, :, : self._num_tokens] for room in self._rooms)
        self.keys, self.values = keys, values
        return keys, values


def roomy_layer(layer: Any, new_tokens: int) -> RoomyLayer:
    """A layer with the contents of a Transformers ``DynamicLayer`` and room for ``new_tokens``
    more.

    Under autocast both stand in its format, into which attention would otherwise cast all of them
    at every step."""
    rooms = []
    for states in (layer.keys, layer.values):
        device = states.device.type
        dtype = (
            torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        )
        batch, heads, tokens, width = states.shape
        room = torch.empty(
            batch, heads, tokens + new_tokens, width, dtype=dtype, device=states.device
        )
        room[:, :, :tokens] = states
        rooms.append(room)
    return RoomyLayer(rooms[0], rooms[1], layer.keys.shape[-2])
