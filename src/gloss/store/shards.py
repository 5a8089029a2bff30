"""Which Parquet files a dataset is; nothing of Parquet is loaded to know that."""

from __future__ import annotations

from pathlib import Path

from gloss.errors import DatasetError


def shard_files(path: Path | str) -> list[Path]:
    """The Parquet files of a dataset: itself, or those of a folder in the order of their names.

    Raises: DatasetError if there is none.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.glob("*.parquet") if not p.name.startswith("."))
        if files:
            return files
        raise DatasetError(
            "no Parquet files in this folder",
            where=path,
            remedy="Make activations with: gloss data extract",
        )
    if not path.is_file():
        raise DatasetError(
            "no such dataset", where=path, expected="a Parquet file or a folder of them"
        )
    return [path]
