"""Columns as other tools write them: vectors in any list of floats of constant width, texts and
numbers in any of their types, and never more memory than a file of its size can need."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gloss.errors import DatasetError
from gloss.store.parquet_footer import column_chunks

VECTOR_COLUMN = "activation_vector"
MAX_WIDTH = 2**18
"""Floats of one vector; the widest models have some 2**14."""
BATCH_BYTES = 2**28
"""Most that is decoded at once."""
SMALL_BYTES, MOST_GROWTH = 2**28, 200
"""A file may decode to so many bytes, or to so many times its own size."""
_ITEM_BYTES = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
"""Of parquet.thrift's types but for those of bytes: BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE."""
_VECTORS = "a list of 16, 32 or 64 bit floats, of the same length in every row"


def is_vector_list(kind: Any) -> bool:
    """Whether a type can hold vectors: list, large list, list view or fixed-size list of floats."""
    if isinstance(kind, pa.BaseExtensionType):
        return is_vector_list(kind.storage_type)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    fixed = pa.types.is_fixed_size_list(kind) and kind.list_size > 0
    return bool((is_list or fixed) and pa.types.is_floating(kind.value_type))


def vector_type(width: int) -> pa.DataType:
    """How vectors of ``width`` floats are held once they are read."""
    return pa.list_(pa.float32(), width)


def vector_width(parquet: pq.ParquetFile, file: Path) -> int:
    """Floats of every vector, by the type or by the footer's counts; 0 for no rows.

    Raises: DatasetError that names the first row of another length, or without one."""
    kind = parquet.schema_arrow.field(VECTOR_COLUMN).type
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_fixed_size_list(kind):
        return _plausible(kind.list_size, file)
    chunks = [c for c in column_chunks(file) if c.column == VECTOR_COLUMN and c.num_rows]
    if not chunks:
        return 0
    width = _plausible(chunks[0].num_values // chunks[0].num_rows, file)
    if any(chunk.num_values != chunk.num_rows * width for chunk in chunks):
        _refuse_first_odd(parquet, file)
    return width


def _plausible(width: int, file: Path) -> int:
    if not 1 <= width <= MAX_WIDTH:
        expected = f"vectors of 1 to {MAX_WIDTH} numbers"
        raise DatasetError("no vectors of activations", where=file, expected=expected, found=width)
    return width


def _refuse_first_odd(parquet: pq.ParquetFile, file: Path) -> None:
    first, width = 0, None
    for batch in parquet.iter_batches(batch_size=64, columns=[VECTOR_COLUMN]):
        column = _storage(pa.chunked_array([batch[VECTOR_COLUMN]]))
        lengths = pc.list_value_length(column).to_pylist()
        width = next((n for n in lengths if n), None) if width is None else width
        with_vectors(pa.table({VECTOR_COLUMN: column}), width or 0, file, first)
        first += len(batch)
    raise DatasetError("vectors of several widths", where=file, expected=_VECTORS)


def with_vectors(table: pa.Table, width: int, file: object, first_row: int) -> pa.Table:
    """The table with its vectors as float32 lists of ``width``; ``first_row`` is its first row's
    number in the file. Raises: DatasetError that names a row without a vector, or of another width.
    """
    at = table.schema.get_field_index(VECTOR_COLUMN)
    if at < 0:
        return table
    column = _storage(table.column(at))
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise _no_vector(first_row + row, width, "null", file)
    if not pa.types.is_fixed_size_list(column.type):
        odd = pc.not_equal(pc.list_value_length(column), width)
        if (row := pc.index(odd, True).as_py()) >= 0:
            found = f"{len(column[row])} numbers"
            raise _no_vector(first_row + row, width, found, file)
    chunks = []
    for chunk in column.chunks:
        flat = chunk.flatten()
        if flat.null_count:
            row = pc.index(pc.is_null(flat), True).as_py() // width
            raise _no_vector(first_row + row, width, "null among its numbers", file)
        if flat.type != pa.float32():
            flat = flat.cast(pa.float32(), safe=False)
        chunks.append(pa.FixedSizeListArray.from_arrays(flat, width))
        first_row += len(chunk)
    vectors = pa.chunked_array(chunks, type=vector_type(width))
    return table.set_column(at, VECTOR_COLUMN, vectors)


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    kind = column.type.storage_type
    return pa.chunked_array([chunk.storage for chunk in column.chunks], type=kind)


def _no_vector(row: int, width: int, found: str, file: object) -> DatasetError:
    return DatasetError(
        f"row {row}: no activation",
        where=file,
        expected=f"a vector of {width} numbers",
        found=found,
        remedy="Leave such rows out, or write the file again without them",
    )


def is_text(kind: Any) -> bool:
    """Whether a type holds texts; nothing but nulls are texts too."""
    stored = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(stored) or is_wide_text(stored) or pa.types.is_null(stored))


def is_wide_text(kind: Any) -> bool:
    """Whether a type is one of Arrow's other types of text."""
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_number(kind: Any) -> bool:
    """Whether a type can hold whole numbers: pandas makes floats of those that have gaps."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def plain(table: pa.Table, texts: Collection[str], numbers: Collection[str]) -> pa.Table:
    """The table with texts as plain texts, and known columns as texts and whole numbers.

    Raises: ArrowException for a fraction; ValueError for texts that grow beyond ``BATCH_BYTES``."""
    fields = []
    for field in table.schema:
        kind = field.type
        if pa.types.is_dictionary(kind) and is_text(kind):
            _check_texts(table[field.name], field.name)
            kind = pa.string()
        elif is_wide_text(kind) or (field.name in texts and kind != pa.string()):
            kind = pa.string()
        elif field.name in numbers:
            kind = pa.int64()
        fields.append(field.with_type(kind))
    return table.cast(pa.schema(fields))


def _check_texts(column: pa.ChunkedArray, name: str) -> None:
    size = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary.cast(pa.large_string()))
        size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    if size > BATCH_BYTES:
        raise ValueError(f"column {name!r} grows to {size} bytes in {len(column)} rows")


def check_growth(file: Path, columns: Collection[str] | None) -> None:
    """Raises DatasetError for a file whose columns decode to far more than files of its size do."""
    decoded = sum(
        max(chunk.uncompressed_bytes, _ITEM_BYTES.get(chunk.physical_type, 2) * chunk.num_values)
        for chunk in column_chunks(file)
        if columns is None or chunk.column in columns
    )
    size = file.stat().st_size
    if decoded > max(SMALL_BYTES, MOST_GROWTH * size):
        raise DatasetError(
            "a file that grows out of proportion",
            where=file,
            expected=f"at most {MOST_GROWTH} times its {size} bytes",
            found=f"{decoded} bytes",
            remedy="Write it without compression if it is what it should be",
        )


def rows_at_once(wanted: int, width: int) -> int:
    """How many rows are decoded together, so that their vectors stay below ``BATCH_BYTES``."""
    return max(1, min(wanted, BATCH_BYTES // (8 * max(1, width))))
