"""Activations on disk: Parquet rows of a raw float32 vector with provenance, written atomically in
bounded memory.

What Gloss writes is checked when it is read: Parquet's own checksum of every page, and one of the
footer, which Parquet has none for. Files of other tools are read without."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gloss.durable import replaced_file
from gloss.errors import DatasetError
from gloss.store.shards import shard_files as shard_files

VECTOR_COLUMN = "activation_vector"
ROW_GROUP_BYTES = 16 * 2**20
_VALUES_AT_ONCE = 2**20
_DICTIONARY_COLUMNS = ["doc_id", "token"]
_REQUIRED = (
    VECTOR_COLUMN,
    "doc_id",
    "n_raw_tokens",
    "detokenized_text_truncated",
    "activation_layer",
)
_TEXT_COLUMNS, _NUMBER_COLUMNS = (
    ("doc_id", "detokenized_text_truncated"),
    ("n_raw_tokens", "activation_layer"),
)
_FOOTER_KEY, _UNSEALED = "gloss.footer", b"0" * 16
_SEAL = re.compile(rb"length and crc32 ([0-9a-f]{16})")
_READ_AGAIN = "Take this file from a copy, or remove it and make it again"
Vectors = np.ndarray[Any, np.dtype[np.float32]]
Norms = np.ndarray[Any, np.dtype[np.float64]]


def activation_schema(d_model: int, *, top_next_tokens: bool = False) -> pa.Schema:
    """Columns of extracted activations; the first five are the ecosystem's, the others Gloss's
    own.
    """
    fields = [
        ("n_raw_tokens", pa.int64()),
        ("detokenized_text_truncated", pa.string()),
        (VECTOR_COLUMN, pa.list_(pa.float32(), d_model)),
        ("activation_layer", pa.int64()),
        ("doc_id", pa.string()),
        ("position", pa.int64()),
        ("token_id", pa.int64()),
        ("token", pa.string()),
    ]
    return pa.schema(
        [*fields, ("top_next_tokens", pa.list_(pa.string()))] if top_next_tokens else fields
    )


def vector_column(vectors: Vectors) -> pa.FixedSizeListArray:
    """Vectors [n, d_model] as a column, without a copy."""
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(vectors).reshape(-1)), vectors.shape[1]
    )


class ActivationWriter:
    """Writes one Parquet file row group by row group to a temporary path, renamed when the block
    ends without an error.

    Keeps the norms of what it wrote: ``num_rows`` and ``norm_statistics`` are complete after the
    block. With
    ``compress_vectors`` False only the other columns are compressed; see ``extent.Extent``.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, compress_vectors: bool = True) -> None:
        self.path, self.schema, self.num_rows = path, schema, 0
        self._compress_vectors = compress_vectors
        self._pending: list[pa.Table] = []
        self._norms: list[Norms] = []
        self._rows_per_group = max(
            1, ROW_GROUP_BYTES // (4 * schema.field(VECTOR_COLUMN).type.list_size)
        )

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._temporary = stack.enter_context(replaced_file(self.path))
            others = [
                leaf for leaf in _leaves(self.schema) if not leaf.startswith(f"{VECTOR_COLUMN}.")
            ]
            self._writer = stack.enter_context(
                pq.ParquetWriter(
                    self._temporary,
                    self.schema,
                    compression="zstd" if self._compress_vectors else dict.fromkeys(others, "zstd"),
                    use_dictionary=_DICTIONARY_COLUMNS,
                    write_statistics=others,
                    write_page_checksum=True,
                    write_batch_size=_VALUES_AT_ONCE,
                )
            )
            self._writer.add_key_value_metadata(
                {_FOOTER_KEY: f"length and crc32 {_UNSEALED.decode()}"}
            )
            self._open = stack.pop_all()
        return self

    def write(self, table: pa.Table) -> None:
        """Adds rows; they are cut into row groups of a fixed size, however they come in."""
        if not len(table):
            return
        norms = norms_of(table, where=self.path)
        self._pending.append(fitted(table, self.schema, where=self.path))
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            if self._pending:
                self._writer.write_table(
                    pa.concat_tables(self._pending), row_group_size=self._rows_per_group
                )
            self._writer.close()
            _seal_footer(self._temporary)


def fitted(table: pa.Table, schema: pa.Schema, *, where: object) -> pa.Table:
    """The table with exactly the columns of a schema, in their order.

    Raises: DatasetError if it lacks one or holds another type.
    """
    try:
        return table.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise DatasetError(
            "rows with different columns",
            where=where,
            expected=schema.names,
            found=table.column_names,
            remedy="Give shards of one dataset",
        ) from error


def _leaves(schema: pa.Schema) -> list[str]:
    """Parquet's own names of the columns that it stores; nested ones have longer names than in
    Arrow.
    """
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    stored = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [stored.column(i).path for i in range(len(stored))]


def norm_statistics(norms: Norms) -> dict[str, float]:
    """Mean, p50, p75, p99 and max of L2 norms; empty for none."""
    if not len(norms):
        return {}
    p50, p75, p99 = (float(value) for value in np.percentile(norms, [50, 75, 99]))
    return {
        "mean": float(norms.mean()),
        "p50": p50,
        "p75": p75,
        "p99": p99,
        "max": float(norms.max()),
    }


def norms_of(table: pa.Table, *, where: object = None) -> Norms:
    """L2 norm of every row's vector; [n] float64, as float32 norms overflow where no entry does.

    Raises: DatasetError naming ``where`` and the first row without a vector.
    """
    vectors = raw_vectors(table, where=where)
    norms: Norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    return norms


def iter_activations(
    path: Path | str, *, columns: Sequence[str] | None = None, batch_rows: int = 4096
) -> Iterator[pa.Table]:
    """Tables of at most ``batch_rows`` rows, in order; only that much is in memory.

    Raises: DatasetError if a file is no dataset of activations or is damaged.
    """
    chosen = None if columns is None else list(columns)
    for file in shard_files(path):
        with open_parquet(file) as parquet:
            for group in range(parquet.metadata.num_row_groups):
                yield from row_group_tables(
                    parquet, file, group, columns=chosen, batch_rows=batch_rows
                )


def row_group_tables(
    parquet: pq.ParquetFile,
    file: Path,
    group: int,
    *,
    columns: list[str] | None = None,
    batch_rows: int = 4096,
) -> Iterator[pa.Table]:
    """The rows of one row group; asked for several, Arrow keeps them all in memory.

    Raises: DatasetError if it is damaged.
    """
    batches = parquet.iter_batches(batch_size=batch_rows, row_groups=[group], columns=columns)
    rest = parquet.metadata.row_group(group).num_rows
    while rest:
        with _named(file, "a damaged Parquet file"):
            batch = next(batches, None)
            if batch is None or len(batch) > rest:
                raise ValueError(f"{rest} rows are missing or too many")
            batch.validate(full=True)
        rest -= len(batch)
        yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def read_activations(path: Path | str, *, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole dataset, Gloss's or the reference's: one file or a folder of shards.

    Raises: DatasetError if it is missing, no Parquet or damaged, or lacks a column.
    """
    tables = []
    for file in shard_files(path):
        with open_parquet(file) as parquet, _named(file, "a damaged Parquet file"):
            table = parquet.read(columns=None if columns is None else list(columns))
            table.validate(full=True)
            if len(table) != parquet.metadata.num_rows:
                raise ValueError(f"{len(table)} rows instead of {parquet.metadata.num_rows}")
            tables.append(table.replace_schema_metadata(None))
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise DatasetError(
            "shards with different columns", where=path, found=str(error).splitlines()[0]
        ) from error


def read_schema(path: Path | str) -> pa.Schema:
    """The columns of a dataset.

    Raises: DatasetError if it is no dataset of activations.
    """
    with open_parquet(shard_files(path)[0]) as parquet:
        return parquet.schema_arrow.remove_metadata()


def open_parquet(file: Path) -> pq.ParquetFile:
    """A Parquet file of activations, its footer and columns checked.

    Raises: DatasetError.
    """
    with _named(file, "not a Parquet file"):
        _verify_footer(file)
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        try:
            _check_columns(parquet.schema_arrow, file)
        except BaseException:
            parquet.close()
            raise
    return parquet


def _check_columns(schema: pa.Schema, file: Path) -> None:
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing:
        raise DatasetError(
            f"no column {missing[0]!r}", where=file, expected=list(_REQUIRED), found=schema.names
        )
    twice = [name for name in _REQUIRED if schema.names.count(name) > 1]
    if twice:
        raise DatasetError(
            f"column {twice[0]!r} is there more than once", where=file, found=schema.names
        )
    kind: Any = schema.field(VECTOR_COLUMN).type
    if (
        not pa.types.is_fixed_size_list(kind)
        or kind.value_type != pa.float32()
        or kind.list_size < 1
    ):
        raise DatasetError(
            f"wrong type of {VECTOR_COLUMN}",
            where=file,
            expected="fixed_size_list<float>[d_model]",
            found=kind,
        )
    wanted = [
        *((name, "text") for name in _TEXT_COLUMNS),
        *((name, "whole numbers") for name in _NUMBER_COLUMNS),
    ]
    for name, meaning in wanted:
        kind = schema.field(name).type
        stored = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = pa.types.is_string(stored) or pa.types.is_large_string(stored)
        if not (is_text if meaning == "text" else pa.types.is_integer(kind)):
            raise DatasetError(f"wrong type of {name}", where=file, expected=meaning, found=kind)


@contextmanager
def _named(file: Path, what: str) -> Iterator[None]:
    """Turns what Arrow raises into a DatasetError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise DatasetError(what, where=file, found=reason, remedy=_READ_AGAIN) from error


def _footer(file: Path) -> tuple[int, bytes]:
    """Where a Parquet file's footer begins, and its bytes; empty where the file is none."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        end = stream.read()
        start = size - 8 - int.from_bytes(end[:4], "little")
        if len(end) < 8 or end[4:] != b"PAR1" or start < 4:
            return 0, b""
        stream.seek(start)
        return start, stream.read(size - 8 - start)


def _seal(footer: bytes, site: int) -> bytes:
    return b"%08x%08x" % (
        len(footer),
        zlib.crc32(footer[:site] + _UNSEALED + footer[site + len(_UNSEALED) :]),
    )


def _seal_footer(file: Path) -> None:
    """Writes the footer's length and checksum in the place that was left for them, which counts as
    zeros.
    """
    start, footer = _footer(file)
    site = [match.start(1) for match in _SEAL.finditer(footer)][-1]
    with file.open("r+b") as stream:
        stream.seek(start + site)
        stream.write(_seal(footer, site))


def _verify_footer(file: Path) -> None:
    """A seal of another length was copied from another file along with its metadata, and says
    nothing.
    """
    _, footer = _footer(file)
    seals = list(_SEAL.finditer(footer))
    if not seals:
        return
    wanted = _seal(footer, seals[-1].start(1))
    if seals[-1][1] != wanted and seals[-1][1][:8] == wanted[:8]:
        raise DatasetError(
            "a damaged Parquet file",
            where=file,
            found="a footer that does not fit its checksum",
            remedy=_READ_AGAIN,
        )


def vectors_as_array(table: pa.Table, *, where: object = None) -> Vectors:
    """The vectors of a table as [n, d_model] float32, without a copy where the column is one piece.

    Raises: DatasetError naming ``where`` and the first row whose vector is missing, zero or not
    finite."""
    vectors = raw_vectors(table, where=where)
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    bad = np.flatnonzero(~((largest > 0) & np.isfinite(largest)))
    if len(bad):
        found = "zero" if largest[bad[0]] == 0 else "NaN or infinity"
        raise DatasetError(
            f"row {bad[0]}: an activation without direction",
            where=where,
            expected="finite and not zero",
            found=found,
        )
    return vectors


def _refuse_nulls(column: pa.ChunkedArray, where: object) -> None:
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        row = next(
            i for i, value in enumerate(column.to_pylist()) if value is None or None in value
        )
        raise DatasetError(
            f"row {row}: no activation", where=where, expected="a vector", found="null"
        )


def raw_vectors(table: pa.Table, *, where: object = None) -> Vectors:
    """The vectors of a table as [n, d_model] float32, zero and non-finite ones too; no copy where
    the column is one piece.

    Raises: DatasetError naming ``where`` and the first row without a vector.
    """
    column = table[VECTOR_COLUMN]
    _refuse_nulls(column, where)
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    values = [
        chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, column.type.list_size)
        for chunk in chunks
    ]
    if len(values) == 1:
        first: Vectors = values[0]
        return first
    return (
        np.concatenate(values) if values else np.zeros((0, column.type.list_size), dtype=np.float32)
    )


def count_documents(table: pa.Table) -> int:
    """Number of different documents."""
    return int(pc.count_distinct(table["doc_id"]).as_py())
