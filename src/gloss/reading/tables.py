"""Tables of explanations: one Parquet row each, with what made them in the file's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gloss.durable import replaced_file
from gloss.errors import DatasetError, first_line
from gloss.foreign import json_text
from gloss.nla.results import Explanations, TokenExplanation
from gloss.store.native_files import parquet_file, parquet_writer

METADATA_KEY = b"gloss.reading"
FORMAT = 1
_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bool": pa.bool_(),
    "tuple[str, ...]": pa.list_(pa.string()),
}
RESULT_SCHEMA = pa.schema(
    [
        (one.name, _TYPES[str(one.type).removesuffix(" | None")])
        for one in fields(TokenExplanation)
        if one.name != "done"
    ]
)
"""The fields of ``TokenExplanation``."""
_LATER = ("baseline",)
"""Columns that files of earlier versions do not have."""


@dataclass(frozen=True)
class Results:
    """Explanations, ``table`` of the columns of ``RESULT_SCHEMA``, with what made them.

    ``header`` says which NLA, model, layer, input, settings and Gloss made it (``provenance``), and
    holds the texts that were read, where they are known (``documents``)."""

    table: pa.Table
    header: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """NLA, model, layer, input, sampling settings and Gloss version."""
        return dict(self.header.get("provenance", {}))

    @property
    def explanations(self) -> Explanations:
        """The rows as an NLA answers them."""
        rows = [{**row, "flags": tuple(row["flags"])} for row in self.to_dicts()]
        name = self.provenance.get("nla", {}).get("name") or ""
        items = tuple(TokenExplanation(**row) for row in rows)
        return Explanations(items, self.provenance.get("layer"), name)

    def to_dicts(self) -> list[dict[str, Any]]:
        """One JSON-ready mapping per explanation."""
        return list(self.table.to_pylist())


def table_of(explanations: Iterable[TokenExplanation]) -> pa.Table:
    """Explanations as a table of ``RESULT_SCHEMA``."""
    return pa.Table.from_pylist([vars(one) for one in explanations], schema=RESULT_SCHEMA)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Tables of ``RESULT_SCHEMA`` as one."""
    return pa.concat_tables([RESULT_SCHEMA.empty_table(), *tables])


def write_results(path: Path, tables: Iterable[pa.Table], header: Mapping[str, Any]) -> int:
    """Writes tables of ``RESULT_SCHEMA``, a row group each, and returns the number of rows."""
    metadata = {
        METADATA_KEY: json_text({"format": FORMAT, **header}, keep_surrogates=True).encode()
    }
    schema, rows = RESULT_SCHEMA.with_metadata(metadata), 0
    with (
        replaced_file(path) as temporary,
        parquet_writer(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            rest = table.select(RESULT_SCHEMA.names).cast(RESULT_SCHEMA)
            writer.write_table(rest.replace_schema_metadata(metadata))
            rows += len(table)
    return rows


def read_results(path: Path | str) -> Results:
    """A whole file of explanations.

    Raises: DatasetError if it is missing, damaged, or not what ``gloss explain --out`` writes.
    """
    header = read_header(Path(path))
    return Results(joined(iter_results(Path(path))), header)


def read_header(path: Path) -> dict[str, Any]:
    """What made a file of explanations. Raises: DatasetError."""
    with _opened(path) as parquet:
        return _header(parquet, path)


def iter_results(path: Path, *, batch_rows: int = 4096) -> Iterator[pa.Table]:
    """Tables of ``batch_rows`` explanations, one of them in memory. Raises: DatasetError."""
    with _opened(path) as parquet:
        _header(parquet, path)
        rest = parquet.metadata.num_rows
        names = [name for name in RESULT_SCHEMA.names if name in parquet.schema_arrow.names]
        batches = parquet.iter_batches(batch_size=batch_rows, columns=names)
        while rest > 0:
            try:
                batch = next(batches)
                batch.validate(full=True)
            except (StopIteration, pa.ArrowException, OSError, ValueError) as error:
                raise _damaged(path, error) from error
            rest -= len(batch)
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            for field in [field for field in RESULT_SCHEMA if field.name not in names]:
                table = table.append_column(field, pa.nulls(len(table), field.type))
            yield table.select(RESULT_SCHEMA.names).cast(RESULT_SCHEMA)


def write_json_lines(path: Path, tables: Iterable[pa.Table]) -> None:
    """The same rows as JSON lines. Raises: StorageError."""
    with replaced_file(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for table in tables:
            out.writelines(json_text(row) + "\n" for row in table.to_pylist())


def _opened(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise DatasetError(
            "no such file of explanations",
            where=path,
            remedy="Make one with: gloss explain --activations … --out …",
        )
    try:
        return parquet_file(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _header(parquet: pq.ParquetFile, path: Path) -> dict[str, Any]:
    schema = parquet.schema_arrow
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None or set(RESULT_SCHEMA.names) - {*_LATER, *schema.names}:
        raise DatasetError(
            "not a file of explanations",
            where=path,
            expected="what gloss explain --out writes",
            found=f"columns {schema.names}",
        )
    try:
        header = json.loads(raw)
        found = header["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if found != FORMAT:
        what = "unknown format of explanations"
        raise DatasetError(what, where=path, expected=FORMAT, found=found)
    return dict(header)


def _damaged(path: Path, error: Exception) -> DatasetError:
    what, remedy = "a damaged file of explanations", "Make it again"
    return DatasetError(what, where=path, found=first_line(error), remedy=remedy)
