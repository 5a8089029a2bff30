"""The shuffle stage: rows in a random order, in memory that does not grow with the dataset.

    key of row i = the i-th 64-bit number of a PCG64 generator seeded with ``seed``
    order        = by key

Keys are independent and equally distributed, so every order of their ranks, and with it every order
of the rows, is equally likely (two equal keys, which keep the input's order, have a chance below n²
/ 2⁶⁵). The first bits of a key name the shard that its row goes to, the next ones a piece of that
shard that fits into memory:

    1. read rows up to the memory limit, sort them by key, write them piece by piece to a temporary
    file; and again
    2. for each shard, piece after piece: collect the piece from all temporary files, sort it by
    key, append it

What fits into memory at once is never written to a temporary file. The order depends on the seed
and the input's order of rows alone, not on the memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from gloss.contract import DatasetSidecar, read_dataset_sidecar, write_dataset_sidecar
from gloss.durable import folder_lock, storage_errors
from gloss.errors import ConfigError
from gloss.progress import Stage
from gloss.store.activations import (
    VECTOR_COLUMN,
    ActivationWriter,
    Vectors,
    fitted,
    raw_vectors,
    read_schema,
    vector_column,
)
from gloss.store.extent import Extent, read_extent
from gloss.store.read_ahead import read_ahead
from gloss.store.record import StageRecord, fingerprint

RECORD_NAME = "shuffle.json"
_TEMPORARY = ".shuffle.tmp"
_KEY_COLUMN = "__key"
_SMALL_SHARD, _LARGE_SHARD, _FEW_SHARDS = 16 * 2**20, 256 * 2**20, 8
_WORKERS = 2
_MAX_RUNS = 400
_LARGEST_PIECE = 2**30
Keys = np.ndarray[Any, np.dtype[np.uint64]]
Order = np.ndarray[Any, np.dtype[np.int64]]


class ShuffleConfig(BaseModel):
    """How rows are shuffled."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(default=0, ge=0)
    """Seed of the order."""
    memory_mb: int = Field(default=512, ge=16)
    """Memory for rows, in MB; a dataset of more than a quarter of it is sorted through temporary
    files beside the output.
    """


@dataclass(frozen=True)
class ShuffleResult:
    """The folder of shards, and how many rows and shards it holds."""

    path: Path
    rows: int
    shards: int


@dataclass(frozen=True)
class _Plan:
    """How a dataset is cut: rows read at once, shards, and pieces of a shard."""

    num_rows: int
    run_rows: int
    num_shards: int
    pieces_per_shard: int

    @property
    def edges(self) -> list[int]:
        """Where the keys of each piece begin, and the end of all."""
        pieces = self.num_shards * self.pieces_per_shard
        return [i * 2**64 // pieces for i in range(pieces + 1)]


def shuffle(config: ShuffleConfig, dataset: Path, out_dir: Path) -> ShuffleResult:
    """Writes the rows of a dataset, in a random order, as Parquet shards with one sidecar into
    ``out_dir``.

    The same seed and input give the same order. Run again after a stop, it keeps the shards that
    are complete.
    Raises: DatasetError if the input is no dataset; ConfigError if memory_mb is too small for it;
    ResumeError if ``out_dir`` was made with another seed or input; LockError, StorageError."""
    with folder_lock(out_dir):
        return _shuffle(config, Path(dataset), out_dir)


def _shuffle(config: ShuffleConfig, dataset: Path, out_dir: Path) -> ShuffleResult:
    parent, extent = read_dataset_sidecar(dataset), read_extent(dataset)
    plan = _plan(extent, config.memory_mb)
    settings = {
        "seed": config.seed,
        "parent": parent.dataset_id,
        "rows": extent.rows,
        "shards": plan.num_shards,
    }
    record = StageRecord.open(out_dir / RECORD_NAME, settings)
    paths = [out_dir / f"shard-{index:05d}.parquet" for index in range(plan.num_shards)]
    done = set(record.done.get("shards", []))
    missing = [
        index for index, path in enumerate(paths) if not (path.name in done and path.exists())
    ]
    if missing:
        record.done["shards"] = [
            path.name for index, path in enumerate(paths) if index not in missing
        ]
        schema = read_schema(dataset)
        with (
            Stage("shuffle", total=2 * extent.rows, unit="row") as progress,
            _temporary_folder(out_dir) as folder,
        ):
            runs = _Runs(config.seed, dataset, schema, plan, folder, progress)
            with ThreadPoolExecutor(_WORKERS) as pool:
                jobs = [
                    pool.submit(_write_shard, runs, i, paths[i], extent.vectors_shrink)
                    for i in missing
                ]
                try:
                    for index, job in zip(missing, jobs, strict=True):
                        progress.advance(job.result())
                        record.done["shards"].append(paths[index].name)
                        record.save()
                finally:
                    pool.shutdown(cancel_futures=True)
    write_dataset_sidecar(_sidecar(parent, extent, settings), out_dir)
    return ShuffleResult(out_dir, extent.rows, plan.num_shards)


def _plan(extent: Extent, memory_mb: int) -> _Plan:
    """Reading holds a quarter of the memory twice (as read, and sorted); each worker an eighth of
    it twice.
    """
    memory, size = memory_mb * 10**6, max(1, extent.num_bytes)
    runs = -(-size // (memory // 4))
    if runs > _MAX_RUNS:
        raise ConfigError(
            "not enough memory to shuffle this dataset",
            expected=f"memory_mb of at least {4 * size // _MAX_RUNS // 10**6 + 1}",
            found=memory_mb,
        )
    num_shards = max(1, -(-size // _LARGE_SHARD), min(_FEW_SHARDS, size // _SMALL_SHARD))
    return _Plan(
        num_rows=extent.rows,
        run_rows=max(1, -(-extent.rows // runs)),
        num_shards=num_shards,
        pieces_per_shard=-(-size // (num_shards * min(memory // (4 * _WORKERS), _LARGEST_PIECE))),
    )


class _Runs:
    """The rows of a dataset in runs, each sorted by key: all but the last in temporary files, the
    last in memory.
    """

    def __init__(
        self,
        seed: int,
        dataset: Path,
        schema: pa.Schema,
        plan: _Plan,
        folder: Path,
        progress: Stage,
    ) -> None:
        self.schema, self.plan = schema, plan
        self._files: list[pa.ipc.RecordBatchFileReader] = []
        generator = np.random.PCG64(seed)
        left = plan.num_rows
        stream = _Stream(fitted(table, schema, where=dataset) for table in read_ahead(dataset))
        while True:
            count = min(plan.run_rows, left)
            rows = _Rows(schema, stream.read(count, progress), generator.random_raw(count))
            pa.default_memory_pool().release_unused()
            left -= count
            if not left:
                break
            self._files.append(_spilled(rows, plan, folder / f"{len(self._files):05d}.arrow"))
        self._last, self._cuts = rows, rows.cuts(plan.edges)

    def piece(self, index: int) -> pa.Table:
        """All rows of a piece, sorted by key; safe to call from several threads."""
        last = self._last.sorted(self._cuts[index], self._cuts[index + 1])
        if not self._files:
            return last.drop_columns([_KEY_COLUMN])
        parts = [pa.Table.from_batches([file.get_batch(index)]) for file in self._files] + [last]
        keys = np.concatenate([part[_KEY_COLUMN].to_numpy() for part in parts])
        rows = _Rows(self.schema, (part.drop_columns([_KEY_COLUMN]) for part in parts), keys)
        return rows.sorted(0, len(keys)).drop_columns([_KEY_COLUMN])


class _Rows:
    """Rows in memory as they were read, and the order of their keys; vectors are copied once, into
    their place.
    """

    def __init__(self, schema: pa.Schema, tables: Iterable[pa.Table], keys: Keys) -> None:
        self._at = schema.get_field_index(VECTOR_COLUMN)
        self._field, others = schema.field(self._at), [schema.remove(self._at).empty_table()]
        self._blocks: list[Vectors] = []
        for table in tables:
            self._blocks.append(raw_vectors(table))
            others.append(table.drop_columns([VECTOR_COLUMN]))
        self._others = pa.concat_tables(others).combine_chunks()
        self._starts = np.cumsum([0, *map(len, self._blocks)])
        self._order: Order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def cuts(self, edges: Sequence[int]) -> list[int]:
        """Where in the order each piece begins, and the end."""
        inner = np.asarray(edges[1:-1], dtype=np.uint64)
        return [0, *np.searchsorted(self._keys, inner, side="left").tolist(), len(self._keys)]

    def sorted(self, first: int, last: int) -> pa.Table:
        """The rows from place ``first`` to ``last`` of the order, and their keys."""
        chosen = self._order[first:last]
        vectors: Vectors = np.empty((len(chosen), self._field.type.list_size), dtype=np.float32)
        block_of = np.searchsorted(self._starts, chosen, side="right") - 1
        for i, block in enumerate(self._blocks):
            here = np.flatnonzero(block_of == i)
            vectors[here] = block[chosen[here] - self._starts[i]]
        table = self._others.take(pa.array(chosen)).add_column(
            self._at, self._field, vector_column(vectors)
        )
        return table.append_column(_KEY_COLUMN, pa.array(self._keys[first:last]))


class _Stream:
    """Reads an exact number of rows from tables of any length."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self._rest = tables, pa.table({})

    def read(self, count: int, progress: Stage) -> Iterator[pa.Table]:
        """Tables that hold the next ``count`` rows."""
        while count:
            table = self._rest if len(self._rest) else next(self._tables)
            part, self._rest = table.slice(0, count), table.slice(count)
            count -= len(part)
            yield part
            progress.advance(len(part))


def _spilled(rows: _Rows, plan: _Plan, path: Path) -> pa.ipc.RecordBatchFileReader:
    """Writes sorted rows to a temporary file, one record batch for each piece, and opens it."""
    cuts = rows.cuts(plan.edges)
    with storage_errors(path):
        schema = rows.sorted(0, 0).schema
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for first, last in pairwise(cuts):
                columns = [column.combine_chunks() for column in rows.sorted(first, last).columns]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        return pa.ipc.open_file(pa.OSFile(str(path)))


def _write_shard(runs: _Runs, index: int, path: Path, compress_vectors: bool) -> int:
    pieces = runs.plan.pieces_per_shard
    with ActivationWriter(path, runs.schema, compress_vectors=compress_vectors) as writer:
        for piece in range(index * pieces, (index + 1) * pieces):
            writer.write(runs.piece(piece))
            pa.default_memory_pool().release_unused()
    return writer.num_rows


@contextmanager
def _temporary_folder(out_dir: Path) -> Iterator[Path]:
    """A folder for temporary files; one that a killed run has left is emptied."""
    folder = out_dir / _TEMPORARY
    shutil.rmtree(folder, ignore_errors=True)
    with storage_errors(folder):
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sidecar(parent: DatasetSidecar, extent: Extent, settings: dict[str, Any]) -> DatasetSidecar:
    return replace(
        parent,
        dataset_id=f"{parent.dataset_id}__shuffled_{fingerprint(settings)[:6]}",
        row_count=extent.rows,
        parent_datasets=(parent.dataset_id,),
        created_by="gloss data shuffle",
    )
