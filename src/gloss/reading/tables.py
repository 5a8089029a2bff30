"""Tables of explanations on disk: one Parquet row per explanation, with what made them in the
file's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gloss.durable import replaced_file
from gloss.errors import DatasetError

METADATA_KEY = b"gloss.reading"
FORMAT = 1
NUMBERS = ("norm", "fve", "cosine", "direction_mse")
RESULT_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("doc_id", pa.string()),
        ("position", pa.int64()),
        ("token", pa.string()),
        ("token_id", pa.int64()),
        ("role", pa.string()),
        ("message_index", pa.int64()),
        ("section", pa.string()),
        ("channel", pa.string()),
        ("generated", pa.bool_()),
        ("fragment_index", pa.int64()),
        ("fragment_count", pa.int64()),
        ("context", pa.string()),
        ("norm", pa.float64()),
        ("flags", pa.list_(pa.string())),
        ("sample", pa.int64()),
        ("text", pa.string()),
        ("response", pa.string()),
        ("fve", pa.float64()),
        ("cosine", pa.float64()),
        ("direction_mse", pa.float64()),
    ]
)
"""``row`` numbers the activations of the input. ``text`` is null where nothing could be extracted
from ``response``.

``context`` is the end of the text up to and with the token. ``section`` is header, content, footer
or scaffold of a message. """


@dataclass(frozen=True)
class Results:
    """Explanations with what made them.

    ``table`` has the columns of ``RESULT_SCHEMA``. ``header`` says which NLA, model, layer, input,
    settings and Gloss made it (``header["provenance"]``), and holds the texts that were read, where
    they are known (``header["documents"]``)."""

    table: pa.Table
    header: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """NLA, model, layer, input, sampling settings and Gloss version."""
        found: Mapping[str, Any] = self.header.get("provenance", {})
        return found

    def to_dicts(self) -> list[dict[str, Any]]:
        """One JSON-ready mapping per explanation."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


def write_results(path: Path, tables: Iterable[pa.Table], header: Mapping[str, Any]) -> int:
    """Writes tables of ``RESULT_SCHEMA`` as one file, a row group each, and returns the number of
    rows.

    Raises: StorageError.
    """
    metadata = {METADATA_KEY: json.dumps({"format": FORMAT, **header}).encode()}
    schema, rows = RESULT_SCHEMA.with_metadata(metadata), 0
    with (
        replaced_file(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(RESULT_SCHEMA).replace_schema_metadata(metadata))
            rows += len(table)
    return rows


def read_results(path: Path | str) -> Results:
    """A whole file of explanations.

    Raises: DatasetError if it is missing, damaged, or not what ``gloss explain --out`` writes.
    """
    file = Path(path)
    header = read_header(file)
    return Results(pa.concat_tables([RESULT_SCHEMA.empty_table(), *iter_results(file)]), header)


def read_header(path: Path) -> dict[str, Any]:
    """What made a file of explanations.

    Raises: DatasetError.
    """
    with _opened(path) as parquet:
        return _header(parquet, path)


def iter_results(path: Path, *, batch_rows: int = 4096) -> Iterator[pa.Table]:
    """Tables of at most ``batch_rows`` explanations, in order; only that much is in memory.

    Raises: DatasetError.
    """
    with _opened(path) as parquet:
        _header(parquet, path)
        rest = parquet.metadata.num_rows
        batches = parquet.iter_batches(batch_size=batch_rows, columns=RESULT_SCHEMA.names)
        while rest > 0:
            try:
                batch = next(batches)
                batch.validate(full=True)
            except (StopIteration, pa.ArrowException, OSError, ValueError) as error:
                raise _damaged(path, error) from error
            rest -= len(batch)
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def write_json_lines(path: Path, tables: Iterable[pa.Table]) -> None:
    """The same rows as JSON lines.

    Raises: StorageError.
    """
    with replaced_file(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for table in tables:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _opened(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise DatasetError(
            "no such file of explanations",
            where=path,
            remedy="Make one with: gloss explain --activations … --out …",
        )
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _header(parquet: pq.ParquetFile, path: Path) -> dict[str, Any]:
    raw = (parquet.schema_arrow.metadata or {}).get(METADATA_KEY)
    missing = [name for name in RESULT_SCHEMA.names if name not in parquet.schema_arrow.names]
    if raw is None or missing:
        raise DatasetError(
            "not a file of explanations",
            where=path,
            expected="what gloss explain --out writes",
            found=f"columns {parquet.schema_arrow.names}",
        )
    try:
        header = json.loads(raw)
        found = header["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if found != FORMAT:
        raise DatasetError(
            "unknown format of explanations", where=path, expected=FORMAT, found=found
        )
    return dict(header)


def _damaged(path: Path, error: Exception) -> DatasetError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return DatasetError(
        "a damaged file of explanations", where=path, found=reason, remedy="Make it again"
    )
