"""The split stage: every document, with all its activations, goes to one of av_sft, ar_sft, rl and
heldout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gloss.contract import DatasetSidecar, read_dataset_sidecar, write_dataset_sidecar
from gloss.data.settings import SPLITS, SplitConfig
from gloss.durable import folder_lock
from gloss.errors import DatasetError
from gloss.progress import Stage
from gloss.seeds import keyed_fraction
from gloss.store.activations import ActivationWriter, iter_activations, read_schema
from gloss.store.extent import read_extent
from gloss.store.read_ahead import read_ahead
from gloss.store.record import StageRecord, fingerprint

RECORD_NAME = "split.json"


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
    with folder_lock(out_dir):
        return _split(config, activations, out_dir)


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


def _split(config: SplitConfig, activations: Path, out_dir: Path) -> SplitResult:
    parent = read_dataset_sidecar(Path(activations))
    paths = {name: out_dir / f"{name}.parquet" for name in SPLITS}
    settings = {
        **config.model_dump(mode="json"),
        "parent": parent.dataset_id,
        "parent_rows": parent.row_count,
    }
    record = StageRecord.open(out_dir / RECORD_NAME, settings)
    if record.done and all(path.exists() for path in paths.values()):
        return SplitResult(paths, record.done["rows"], record.done["documents"])
    schema, compress = read_schema(activations), read_extent(activations).vectors_shrink
    documents: dict[str, set[str]] = {name: set() for name in SPLITS}
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(ActivationWriter(path, schema, compress_vectors=compress))
            for name, path in paths.items()
        }
        progress = stack.enter_context(Stage("split", total=parent.row_count, unit="row"))
        write = stack.enter_context(_one_behind())
        for table in read_ahead(activations):
            parts = _parts(table, config, documents)
            write(_write, writers, parts)
            progress.advance(len(table))
        _check(config, documents, activations)
    rows = {name: writer.num_rows for name, writer in writers.items()}
    for name, writer in writers.items():
        write_dataset_sidecar(_sidecar(parent, name, settings, writer), paths[name])
    counts = {name: len(ids) for name, ids in documents.items()}
    record.done = {"rows": rows, "documents": counts}
    record.save()
    return SplitResult(paths, rows, counts)


@contextmanager
def _one_behind() -> Iterator[Callable[..., None]]:
    """Runs jobs in the background, in their order, while the next one is prepared; their errors are
    raised here.
    """
    with ThreadPoolExecutor(1) as pool:
        running: list[Future[object]] = []

        def run(job: Callable[..., object], *arguments: object) -> None:
            if running:
                running.pop().result()
            running.append(pool.submit(job, *arguments))

        yield run
        if running:
            running.pop().result()


def _write(writers: Mapping[str, ActivationWriter], parts: Mapping[str, pa.Table]) -> None:
    for name, part in parts.items():
        writers[name].write(part)


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


def _check(config: SplitConfig, documents: Mapping[str, set[str]], where: Path) -> None:
    empty = [name for name, share in config.shares.items() if share > 0 and not documents[name]]
    if empty:
        total = sum(len(ids) for ids in documents.values())
        raise DatasetError(
            f"no document for {' and '.join(empty)}",
            where=where,
            expected="at least one document for each part",
            found=f"{total} documents in all",
            remedy="Extract from more documents or raise the share",
        )


def _sidecar(
    parent: DatasetSidecar, name: str, settings: Mapping[str, Any], writer: ActivationWriter
) -> DatasetSidecar:
    return replace(
        parent,
        dataset_id=f"{parent.dataset_id}__{name}_{fingerprint(settings)[:6]}",
        row_count=writer.num_rows,
        norm_statistics=writer.norm_statistics,
        parent_datasets=(parent.dataset_id,),
        created_by="gloss data split",
    )
