"""The split stage: every document goes, with all its activations, to one part.

It does little else than move rows: they are decoded ahead and written in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gloss.contract import read_dataset_sidecar
from gloss.data.settings import SPLITS, SplitConfig
from gloss.data.staging import stage_run
from gloss.errors import DatasetError
from gloss.seeds import keyed_fraction
from gloss.store.activations import (
    PROVENANCE,
    VECTOR_COLUMN,
    ActivationWriter,
    iter_activations,
    open_parquet,
    read_schema,
    require_columns,
    require_values,
    row_group_tables,
    shard_files,
)
from gloss.store.parquet_footer import column_chunks

_THREADS = 2
_LARGEST_GROUP = 64 * 2**20


@dataclass(frozen=True)
class SplitResult:
    """The files, and how many rows and documents each holds."""

    paths: Mapping[str, Path]
    rows: Mapping[str, int]
    documents: Mapping[str, int]


def assign(doc_id: str, config: SplitConfig) -> str:
    """The part of a document; depends on the seed and its id only."""
    place, reached = keyed_fraction(config.seed, doc_id, purpose="split"), 0.0
    names = [name for name, share in config.shares.items() if share > 0]
    for name in names[:-1]:
        reached += config.shares[name]
        if place < reached:
            return name
    return names[-1]


def split(config: SplitConfig, activations: Path, out_dir: Path) -> SplitResult:
    """Writes one Parquet file per part, rows in their order.

    Raises: DatasetError if the input is no dataset, or a part with a share gets no document;
    ResumeError, LockError, StorageError."""
    parent, schema = read_dataset_sidecar(Path(activations)), read_schema(activations)
    require_columns(schema, PROVENANCE, activations)
    origin = {"parent": parent.dataset_id, "parent_rows": parent.row_count}
    settings = {**config.model_dump(mode="json"), **origin}
    paths = {name: out_dir / f"{name}.parquet" for name in SPLITS}
    documents: dict[str, set[str]] = {name: set() for name in SPLITS}
    with stage_run("split", out_dir, settings, defaults=config.defaults()) as run:
        if (done := run.finished(*paths.values())) is not None:
            return SplitResult(paths, done["rows"], done["documents"])
        compress = _vectors_shrink(activations)
        with ExitStack() as stack:
            writers = {}
            for name, path in paths.items():
                dataset_id = f"{parent.dataset_id}__{name}_{run.tag}"
                dataset = run.dataset(path, schema, parent, dataset_id, compress_vectors=compress)
                writers[name] = stack.enter_context(dataset)
            progress = stack.enter_context(run.progress(parent.row_count, "row"))
            pool = stack.enter_context(ThreadPoolExecutor(1))
            writing = pool.submit(_write, writers, {})
            for table in _read_ahead(activations):
                require_values(table, PROVENANCE, activations)
                parts = _parts(table, config, documents)
                writing.result()
                writing = pool.submit(_write, writers, parts)
                progress.advance(len(table))
            writing.result()
            _require_documents(config, documents, activations)
        rows = {name: writer.num_rows for name, writer in writers.items()}
        counts = {name: len(ids) for name, ids in documents.items()}
        run.finish(*paths.values(), rows=rows, documents=counts)
        return SplitResult(paths, rows, counts)


def check_document_disjoint(parts: Mapping[str, Path]) -> None:
    """Raises DatasetError that names a document with activations in two parts."""
    part_of: dict[str, str] = {}
    for name, path in parts.items():
        for table in iter_activations(path, columns=["doc_id"]):
            require_values(table, ["doc_id"], path)
            for doc_id in pc.unique(table["doc_id"]).to_pylist():
                if part_of.setdefault(doc_id, name) != name:
                    raise DatasetError(
                        f"a document stands in {part_of[doc_id]} and in {name}",
                        where=path,
                        expected="every document in one part",
                        found=repr(doc_id),
                        remedy="Split by document, for example with: gloss data split",
                    )


def _parts(
    table: pa.Table, config: SplitConfig, documents: dict[str, set[str]]
) -> dict[str, pa.Table]:
    ids = table["doc_id"].combine_chunks().dictionary_encode()
    part_of = {doc_id: assign(doc_id, config) for doc_id in ids.dictionary.to_pylist()}
    for doc_id, name in part_of.items():
        documents[name].add(doc_id)
    names = np.asarray(list(part_of.values()))[ids.indices.to_numpy()]
    rows = {name: np.flatnonzero(names == name) for name in set(part_of.values())}
    return {name: table.take(pa.array(index)) for name, index in rows.items()}


def _write(writers: Mapping[str, ActivationWriter], parts: Mapping[str, pa.Table]) -> None:
    for name, part in parts.items():
        writers[name].write(part)


def _require_documents(config: SplitConfig, documents: Mapping[str, set[str]], where: Path) -> None:
    empty = [name for name, share in config.shares.items() if share > 0 and not documents[name]]
    if empty:
        raise DatasetError(
            f"no document for {' and '.join(empty)}",
            where=where,
            expected="at least one document for each part",
            found=f"{sum(map(len, documents.values()))} documents in all",
            remedy="Extract from more documents or raise the share",
        )


def _vectors_shrink(path: Path) -> bool:
    """Whether compression made the vectors a tenth smaller, told from the footers.

    It halves those computed in bfloat16; for float32 it would take most of the stage's time."""
    every = [chunk for file in shard_files(path) for chunk in column_chunks(file)]
    vectors = [chunk for chunk in every if chunk.column == VECTOR_COLUMN]
    stored = sum(chunk.compressed_bytes for chunk in vectors)
    return stored < 0.9 * sum(chunk.uncompressed_bytes for chunk in vectors)


def _read_ahead(path: Path) -> Iterator[pa.Table]:
    """Tables in order; at most two row groups are being decoded while a third one is in use.

    Row groups larger than Gloss's are read in the foreground: each has to be in memory whole."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for file in shard_files(path):
            with open_parquet(file) as parquet:
                groups = range(parquet.metadata.num_row_groups)
                sizes = [parquet.metadata.row_group(group).total_byte_size for group in groups]
            if max(sizes, default=0) > _LARGEST_GROUP:
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
