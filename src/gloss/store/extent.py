"""How large a dataset is, told from its footers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gloss.store.activations import VECTOR_COLUMN, open_parquet, shard_files


@dataclass(frozen=True)
class Extent:
    """How large a dataset is: rows, bytes in memory (about), and whether compression makes its
    vectors a tenth smaller.

    Values that a model computed in bfloat16 halve. Those of float32 hardly shrink, and compressing
    them again takes most of the time of a stage that only moves rows."""

    rows: int
    num_bytes: int
    vectors_shrink: bool


def read_extent(path: Path | str) -> Extent:
    """The extent of a dataset, from its footers.

    Raises: DatasetError.
    """
    rows = num_bytes = stored = plain = 0
    for file in shard_files(path):
        with open_parquet(file) as parquet:
            metadata = parquet.metadata
            rows += metadata.num_rows
            for group in map(metadata.row_group, range(metadata.num_row_groups)):
                num_bytes += group.total_byte_size
                for column in map(group.column, range(group.num_columns)):
                    if column.path_in_schema.startswith(f"{VECTOR_COLUMN}."):
                        stored += column.total_compressed_size
                        plain += column.total_uncompressed_size
    return Extent(rows, num_bytes, vectors_shrink=stored < 0.9 * plain)
