"""Activations on disk: Parquet rows of a raw float32 vector with provenance, written atomically in
bounded memory.

What is damaged is found when it is read: by Parquet's checksum of every page where the file has
them, by the number of rows, and by the columns' names, which stand in the footer twice."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gloss.durable import replaced_file
from gloss.errors import DatasetError, first_line
from gloss.store.foreign_columns import (
    VECTOR_COLUMN,
    check_growth,
    is_number,
    is_text,
    is_vector_list,
    plain,
    rows_at_once,
    vector_type,
    vector_width,
    with_vectors,
)
from gloss.store.native_files import parquet_file, parquet_writer
from gloss.store.shards import shard_files as shard_files

ROW_GROUP_BYTES = 16 * 2**20
_VALUES_AT_ONCE = 2**20
_DICTIONARY_COLUMNS = ["doc_id", "token"]
_TEXT, _COUNT, _LAYER = "detokenized_text_truncated", "n_raw_tokens", "activation_layer"
PROVENANCE = ("doc_id", _COUNT, _TEXT, _LAYER)
"""What the stages that make datasets need beside the vectors; to explain, none of it is."""
_TEXT_COLUMNS = ("doc_id", _TEXT, "token", "response", "api_explanation")
_NUMBER_COLUMNS = (_COUNT, _LAYER, "position", "token_id")
_NESTED_COLUMNS = ("prompt", "top_next_tokens")
_READ_AGAIN = "Take this file from a copy, or remove it and make it again"
Vectors = np.ndarray[Any, np.dtype[np.float32]]
Norms = np.ndarray[Any, np.dtype[np.float64]]


def activation_schema(d_model: int, *, top_next_tokens: bool = False) -> pa.Schema:
    """Columns of extracted activations: first the ecosystem's five, then Gloss's own."""
    number, text, vector = pa.int64(), pa.string(), pa.list_(pa.float32(), d_model)
    fields = [(_COUNT, number), (_TEXT, text), (VECTOR_COLUMN, vector), (_LAYER, number)]
    fields += [("doc_id", text), ("position", number), ("token_id", number), ("token", text)]
    fields += [("top_next_tokens", pa.list_(text))] if top_next_tokens else []
    return pa.schema(fields)


def vector_column(vectors: Vectors) -> pa.FixedSizeListArray:
    """Vectors [n, d_model] as a column, without a copy."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1]
    )


class ActivationWriter:
    """Writes one Parquet file in row groups; it is in place when the block ends without error.

    Keeps the norms of what it wrote. Without ``compress_vectors`` only the rest is compressed."""

    def __init__(self, path: Path, schema: pa.Schema, *, compress_vectors: bool = True) -> None:
        self.path, self.schema, self.num_rows = path, schema, 0
        self._compress_vectors = compress_vectors
        self._pending: list[pa.Table] = []
        self._norms: list[Norms] = []
        d_model = schema.field(VECTOR_COLUMN).type.list_size
        self._rows_per_group = max(1, ROW_GROUP_BYTES // (4 * d_model))

    def __enter__(self) -> Self:
        others = [leaf for leaf in _leaves(self.schema) if not leaf.startswith(f"{VECTOR_COLUMN}.")]
        with ExitStack() as stack:
            self._writer = stack.enter_context(
                parquet_writer(
                    stack.enter_context(replaced_file(self.path)),
                    self.schema,
                    compression="zstd" if self._compress_vectors else dict.fromkeys(others, "zstd"),
                    use_dictionary=_DICTIONARY_COLUMNS,
                    write_statistics=others,
                    write_page_checksum=True,
                    write_batch_size=_VALUES_AT_ONCE,
                )
            )
            self._open = stack.pop_all()
        return self

    def write(self, table: pa.Table) -> None:
        """Adds rows. Raises: DatasetError for other columns, or a row without a vector."""
        if not len(table):
            return
        norms = norms_of(table, where=self.path)
        try:
            self._pending.append(table.select(self.schema.names).cast(self.schema))
        except (KeyError, pa.ArrowException) as error:
            raise DatasetError(
                "rows with different columns",
                where=self.path,
                expected=self.schema.names,
                found=table.column_names,
                remedy="Give shards of one dataset",
            ) from error
        self._norms.append(norms)
        self.num_rows += len(table)
        if sum(map(len, self._pending)) >= self._rows_per_group:
            rows = pa.concat_tables(self._pending)
            whole = len(rows) - len(rows) % self._rows_per_group
            self._writer.write_table(rows.slice(0, whole), row_group_size=self._rows_per_group)
            self._pending = [rows.slice(whole)] if whole < len(rows) else []

    @property
    def norms(self) -> Norms:
        """L2 norms of the vectors written so far."""
        return np.concatenate([np.zeros(0), *self._norms])

    @property
    def norm_statistics(self) -> dict[str, float]:
        """Mean, p50, p75, p99 and max of the norms written so far."""
        return norm_statistics(self.norms)

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            self._open.__exit__(kind, *error)
            return
        with self._open:
            if self._pending:
                rows = pa.concat_tables(self._pending)
                self._writer.write_table(rows, row_group_size=self._rows_per_group)


def _leaves(schema: pa.Schema) -> list[str]:
    """Parquet's own names of the columns that it stores; nested ones are longer than in Arrow."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    stored = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [stored.column(i).path for i in range(len(stored))]


def norm_statistics(norms: Norms) -> dict[str, float]:
    """Mean, p50, p75, p99 and max of L2 norms; empty for none."""
    if not len(norms):
        return {}
    values = norms.mean(), *np.percentile(norms, [50, 75, 99]), norms.max()
    return dict(zip(("mean", "p50", "p75", "p99", "max"), map(float, values), strict=True))


def norms_of(table: pa.Table, *, where: object = None) -> Norms:
    """L2 norm of every row's vector; [n] float64, as float32 overflows where no entry does."""
    vectors = raw_vectors(table, where=where)
    norms: Norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return norms


def iter_activations(
    path: Path | str, *, columns: Sequence[str] | None = None, batch_rows: int = 4096
) -> Iterator[pa.Table]:
    """Tables of at most ``batch_rows`` rows, in order, in bounded memory. Raises: DatasetError."""
    for file in shard_files(path):
        with open_parquet(file, columns) as parquet:
            width = vector_width(parquet, file)
            for group in range(parquet.metadata.num_row_groups):
                rows = row_group_tables(parquet, file, group, columns, batch_rows, width)
                yield from rows


def row_group_tables(
    parquet: pq.ParquetFile,
    file: Path,
    group: int,
    columns: Sequence[str] | None = None,
    batch_rows: int = 4096,
    width: int | None = None,
) -> Iterator[pa.Table]:
    """The rows of one row group; asked for several, Arrow keeps them all in memory."""
    names = None if columns is None else list(columns)
    width, metadata = width or vector_width(parquet, file), parquet.metadata
    size = rows_at_once(batch_rows, width)
    batches = parquet.iter_batches(batch_size=size, row_groups=[group], columns=names)
    first = sum(metadata.row_group(before).num_rows for before in range(group))
    rest = metadata.row_group(group).num_rows
    while rest:
        with _named(file, "a damaged Parquet file"):
            batch = next(batches, None)
            if batch is None or len(batch) > rest:
                raise ValueError(f"{rest} rows are missing or too many")
            batch.validate(full=True)
        with _named(file, "values that do not fit their column"):
            table = plain(pa.Table.from_batches([batch]), _TEXT_COLUMNS, _NUMBER_COLUMNS)
            table = with_vectors(table, width, file, first)
        first, rest = first + len(batch), rest - len(batch)
        yield table


def read_activations(path: Path | str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole dataset, Gloss's, the reference's or another tool's. Raises: DatasetError."""
    tables = [*iter_activations(path, columns=columns)]
    tables = tables or [read_schema(path, columns).empty_table()]
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        found = first_line(error)
        raise DatasetError("shards with different columns", where=path, found=found) from error


def read_schema(path: Path | str, columns: Sequence[str] | None = None) -> pa.Schema:
    """The columns of a dataset, as they are read. Raises: DatasetError if it has no vectors."""
    file = shard_files(path)[0]
    with open_parquet(file, columns) as parquet:
        return schema_of(parquet, file, columns)


def schema_of(
    parquet: pq.ParquetFile, file: Path, columns: Sequence[str] | None = None
) -> pa.Schema:
    """The columns of one opened file, as they are read."""
    table = parquet.schema_arrow.empty_table()
    if columns is not None:
        table = table.select([name for name in table.column_names if name in columns])
    schema = plain(table, _TEXT_COLUMNS, _NUMBER_COLUMNS).schema
    if (at := schema.get_field_index(VECTOR_COLUMN)) >= 0:
        kind = vector_type(vector_width(parquet, file))
        schema = schema.set(at, pa.field(VECTOR_COLUMN, kind))
    return schema


def require_columns(schema: pa.Schema, names: Sequence[str], where: object) -> None:
    """Raises DatasetError that names the first column that is missing."""
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise DatasetError(
            f"no column {missing[0]!r}", where=where, expected=list(names), found=schema.names
        )


def require_values(table: pa.Table, names: Sequence[str], where: object) -> None:
    """Raises DatasetError that names the first of these columns that lacks a value."""
    for name in names:
        if lacking := table[name].null_count:
            what, expected = f"rows without {name}", "a value in each row"
            found = f"none in {lacking} of {len(table)} rows"
            raise DatasetError(what, where=where, expected=expected, found=found)


def open_parquet(file: Path, columns: Sequence[str] | None = None) -> pq.ParquetFile:
    """A Parquet file of activations of which ``columns`` will be read, its columns and its growth
    checked. Raises: DatasetError."""
    with _named(file, "not a Parquet file"):
        with parquet_file(file) as plainly:
            leaves = map(plainly.schema.column, range(len(plainly.schema)))
            texts = [c.path for c in leaves if c.physical_type == "BYTE_ARRAY"]
            metadata = plainly.metadata
        parquet = parquet_file(
            file,
            metadata=metadata,
            page_checksum_verification=True,
            read_dictionary=[name for name in _TEXT_COLUMNS if name in texts],
        )
        try:
            with _named(file, "a damaged Parquet file"):
                _check_footer(parquet)
                _check_columns(parquet.schema_arrow, file)
                check_growth(file, columns)
                vector_width(parquet, file)
        except BaseException:
            parquet.close()
            raise
    return parquet


def _check_footer(parquet: pq.ParquetFile) -> None:
    """Rows are counted in it twice and columns named twice: a damaged one contradicts itself."""
    metadata, found = parquet.metadata, parquet.schema_arrow
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    if sum(group.num_rows for group in groups) != metadata.num_rows:
        raise ValueError("rows are missing or too many")
    stored = (metadata.metadata or {}).get(b"ARROW:schema")
    if stored is None:
        return
    written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored, validate=True)))
    if written.names != found.names or any(
        written.field(name).type != found.field(name).type
        for name in _NESTED_COLUMNS
        if name in found.names
    ):
        raise ValueError(f"columns called {written.names} and {found.names}")


def _check_columns(schema: pa.Schema, file: Path) -> None:
    require_columns(schema, [VECTOR_COLUMN], file)
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        VECTOR_COLUMN: ("a list of floats, of one length", is_vector_list),
        **dict.fromkeys(_TEXT_COLUMNS, ("text", is_text)),
        **dict.fromkeys(_NUMBER_COLUMNS, ("whole numbers", is_number)),
        "doc_id": ("text or whole numbers", lambda k: is_text(k) or pa.types.is_integer(k)),
    }
    for name, (meaning, fits) in kinds.items():
        if schema.names.count(name) > 1:
            raise DatasetError(
                f"column {name!r} is there more than once", where=file, found=schema.names
            )
        if name in schema.names and not fits(kind := schema.field(name).type):
            raise DatasetError(
                f"wrong type of {name}",
                where=file,
                expected=meaning,
                found=kind,
                remedy=f"Write {name} so, or without that column"
                if name != VECTOR_COLUMN
                else None,
            )


@contextmanager
def _named(file: Path, what: str) -> Iterator[None]:
    """Turns what Arrow raises into a DatasetError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        found = first_line(error)
        raise DatasetError(what, where=file, found=found, remedy=_READ_AGAIN) from error


def row_positions(table: pa.Table) -> list[int | None]:
    """The token index of every row, None where nothing tells it; the reference's datasets have the
    length of its text."""
    nothing = [None] * len(table)
    names = table.schema.names
    found = table["position"].to_pylist() if "position" in names else nothing
    counts = table[_COUNT].to_pylist() if _COUNT in names else nothing
    return [
        (None if n is None else n - 1) if at is None else at
        for at, n in zip(found, counts, strict=True)
    ]


def vectors_as_array(table: pa.Table, *, where: object = None) -> Vectors:
    """The vectors of a table as [n, d_model] float32, without a copy where that is possible.

    Raises: DatasetError naming ``where`` and the first missing, zero or non-finite vector."""
    vectors = raw_vectors(table, where=where)
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    bad = np.flatnonzero(~((largest > 0) & np.isfinite(largest)))
    if len(bad):
        raise DatasetError(
            f"row {bad[0]}: an activation without direction",
            where=where,
            expected="finite and not zero",
            found="zero" if largest[bad[0]] == 0 else "NaN or infinity",
        )
    return vectors


def raw_vectors(table: pa.Table, *, where: object = None) -> Vectors:
    """The same, zero and non-finite ones too. Raises: DatasetError for a row without a vector."""
    column = table[VECTOR_COLUMN]
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        values = column.to_pylist()
        row = next(i for i, value in enumerate(values) if value is None or None in value)
        raise DatasetError(
            f"row {row}: no activation", where=where, expected="a vector", found="null"
        )
    width = column.type.list_size
    flat = [chunk.flatten() for chunk in column.chunks if len(chunk)]
    blocks: list[Vectors] = [f.to_numpy(zero_copy_only=True).reshape(-1, width) for f in flat]
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if blocks else np.zeros((0, width), dtype=np.float32)
