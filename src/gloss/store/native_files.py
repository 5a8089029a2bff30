"""Parquet files under any name that the file system allows: Arrow takes names that are no UTF-8 as
bytes only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_file(file: Path, **options: Any) -> pq.ParquetFile:
    """An opened Parquet file. Raises: OSError, ArrowException."""
    return pq.ParquetFile(_opened(file, "rb"), **options)


@contextmanager
def parquet_writer(file: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """A writer of a Parquet file, which is whole when the block ends. Raises: OSError."""
    with _opened(file, "wb") as sink, pq.ParquetWriter(sink, schema, **options) as writer:
        yield writer


def _opened(file: Path, mode: str) -> Any:
    return pa.OSFile(os.fsencode(file), mode)
