"""What the footer of a Parquet file says of its column chunks, read in Python: Arrow ends the whole
process over a damaged one.

The format: Thrift's compact protocol, and parquet.thrift for the numbers of fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
_GROUPS, _COLUMNS, _META = 4, 1, 3
_TYPE, _PATH, _NUM_VALUES, _UNCOMPRESSED, _COMPRESSED, _NUM_ROWS = 1, 3, 5, 6, 7, 3
_DEEPEST = 16
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class ColumnChunk:
    """One column of one row group: its physical type by parquet.thrift's number."""

    group: int
    num_rows: int
    column: str
    physical_type: int
    num_values: int
    uncompressed_bytes: int
    compressed_bytes: int


def column_chunks(file: Path) -> list[ColumnChunk]:
    """All column chunks of a file. Raises: ValueError for a damaged footer, OSError."""
    try:
        groups = _Reader(_footer(file)).struct(0).get(_GROUPS, [])
        return [chunk for index, group in enumerate(groups) for chunk in _chunks(index, group)]
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError("a footer that contradicts itself") from error


def _footer(file: Path) -> bytes:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        tail = stream.read(8)
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < 8 or tail[4:] != _MAGIC or length + 8 > size:
            raise ValueError("no footer")
        stream.seek(size - 8 - length)
        return stream.read(length)


def _chunks(index: int, group: dict[int, Any]) -> Iterator[ColumnChunk]:
    for chunk in group[_COLUMNS]:
        meta = chunk[_META]
        name = meta[_PATH][0].decode()
        numbers = [int(meta[key]) for key in (_TYPE, _NUM_VALUES, _UNCOMPRESSED, _COMPRESSED)]
        if min(numbers) < 0 or group[_NUM_ROWS] < 0:
            raise ValueError("negative numbers of values")
        yield ColumnChunk(index, group[_NUM_ROWS], name, *numbers)


class _Reader:
    """Reads structs as mappings from the numbers of their fields."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        found: dict[int, Any] = {}
        key = 0
        while head := self._byte():
            key = key + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[key] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if depth >= _DEEPEST:
            raise ValueError("nested too deeply")
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind not in (_LIST, _SET):
            raise ValueError(f"kind {kind} of a field")
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._unsigned()
        if size > len(self._data):
            raise ValueError("a list longer than its footer")
        return [self._value(head & 15, depth + 1) for _ in range(size)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("the footer ends early")
        return self._data[self._at - size : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number of too many bytes")

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
