"""The split stage: every document, with all its activations, goes to one of av_sft, ar_sft, rl and
heldout.

It does little else than move rows, so the next row groups are decoded, and the last rows written,
in the background."""

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
    VECTOR_COLUMN,
    ActivationWriter,
    iter_activations,
    open_parquet,
    read_schema,
    row_group_tables,
    shard_files,
)

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
    """Writes ``av_sft.parquet``, ``ar_sft.parquet``, ``rl.parquet`` and ``heldout.parquet``, rows
    in their order.

    Raises: DatasetError if the input is no dataset, or a part with a share above 0 gets no
    document; ResumeError, LockError, StorageError."""
    parent, schema = read_dataset_sidecar(Path(activations)), read_schema(activations)
    settings = {
        **config.model_dump(mode="json"),
        "parent": parent.dataset_id,
        "parent_rows": parent.row_count,
    }
    paths = {name: out_dir / f"{name}.parquet" for name in SPLITS}
    documents: dict[str, set[str]] = {name: set() for name in SPLITS}
    with stage_run("split", out_dir, settings) as run:
        if (done := run.finished(*paths.values())) is not None:
            return SplitResult(paths, done["rows"], done["documents"])
        compress = _vectors_shrink(activations)
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(
                    run.dataset(
                        path,
                        schema,
                        parent,
                        f"{parent.dataset_id}__{name}_{run.tag}",
                        compress_vectors=compress,
                    )
                )
                for name, path in paths.items()
            }
            progress = stack.enter_context(run.progress(parent.row_count, "row"))
            pool = stack.enter_context(ThreadPoolExecutor(1))
            writing = pool.submit(_write, writers, {})
            for table in _read_ahead(activations):
                parts = _parts(table, config, documents)
                writing.result()
                writing = pool.submit(_write, writers, parts)
                progress.advance(len(table))
            writing.result()
            _require_documents(config, documents, activations)
        rows = {name: writer.num_rows for name, writer in writers.items()}
        counts = {name: len(ids) for name, ids in documents.items()}
        run.finish(rows=rows, documents=counts)
        return SplitResult(paths, rows, counts)


def check_document_disjoint(parts: Mapping[str, Path]) -> None:
    """Checks that no document has activations in two parts, whoever split them.

    Raises: DatasetError that names the parts and the document.
    """
    part_of: dict[str, str] = {}
    for name, path in parts.items():
        for table in iter_activations(path, columns=["doc_id"]):
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
    return {
        name: table.take(pa.array(np.flatnonzero(names == name))) for name in set(part_of.values())
    }


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

    It halves values that a model computed in bfloat16. Those of float32 hardly shrink, and
    compressing them again would take most of the stage's time."""
    stored = plain = 0
    for file in shard_files(path):
        with open_parquet(file) as parquet:
            metadata = parquet.metadata
            for group in map(metadata.row_group, range(metadata.num_row_groups)):
                for column in map(group.column, range(group.num_columns)):
                    if column.path_in_schema.startswith(f"{VECTOR_COLUMN}."):
                        stored += column.total_compressed_size
                        plain += column.total_uncompressed_size
    return stored < 0.9 * plain


def _read_ahead(path: Path) -> Iterator[pa.Table]:
    """Tables of a dataset in order; at most two row groups are being decoded while a third one is
    in use.

    A file with larger row groups than Gloss writes is read in the foreground, since each has to be
    in memory as a whole."""
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
