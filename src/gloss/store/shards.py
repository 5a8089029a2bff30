"""Which Parquet files a dataset is; nothing of Parquet is loaded to know that."""

from __future__ import annotations

from pathlib import Path

from gloss.errors import DatasetError


def shard_files(path: Path | str) -> list[Path]:
    """The Parquet files of a dataset: itself, or a folder's, by name. Raises: DatasetError."""
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.glob("*.parquet") if not p.name.startswith("."))
        if files:
            return files
        remedy = "Make activations with: gloss data extract"
        raise DatasetError("no Parquet files in this folder", where=path, remedy=remedy)
    if not path.is_file():
        expected = "a Parquet file or a folder of them"
        raise DatasetError("no such dataset", where=path, expected=expected)
    return [path]
