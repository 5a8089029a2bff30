"""Reads a dataset with the next row groups decoded in the background, for stages that do little
else than move rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from gloss.store.activations import iter_activations, open_parquet, row_group_tables, shard_files

_THREADS = 2
_LARGEST_GROUP = 64 * 2**20


def read_ahead(path: Path | str) -> Iterator[pa.Table]:
    """Tables of a dataset in order; at most two row groups are being decoded while a third one is
    in use.

    A file with larger row groups than Gloss writes is read in the foreground, since each has to be
    in memory as a whole.
    Raises: DatasetError.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for file in shard_files(path):
            with open_parquet(file) as parquet:
                metadata = parquet.metadata
            groups = range(metadata.num_row_groups)
            if any(metadata.row_group(group).total_byte_size > _LARGEST_GROUP for group in groups):
                yield from iter_activations(file)
                continue
            running: deque[Future[list[pa.Table]]] = deque()
            for group in groups:
                if len(running) == _THREADS:
                    yield from running.popleft().result()
                running.append(pool.submit(_decoded, file, group))
            while running:
                yield from running.popleft().result()


def _decoded(file: Path, group: int) -> list[pa.Table]:
    with open_parquet(file) as parquet:
        return list(row_group_tables(parquet, file, group))
