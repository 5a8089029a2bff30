"""A cache bounded by the bytes that its values take; what was not asked for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")
_ENTRY_BYTES = 200
"""What an entry costs beside its value: key, links, objects."""


class BoundedCache(Generic[Value]):
    """Values by key, at most ``max_bytes`` of them; not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._entries: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Value | None:
        """The value, which counts as asked for now; None if it is not here."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, value: Value, num_bytes: int) -> None:
        """Keeps a value that takes ``num_bytes``; one that is larger than the whole cache is not
        kept.
        """
        size = num_bytes + len(key) + _ENTRY_BYTES
        if size > self.max_bytes:
            return
        before = self._entries.pop(key, None)
        self.num_bytes += size - (before[1] if before else 0)
        self._entries[key] = (value, size)
        while self.num_bytes > self.max_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.num_bytes -= dropped
