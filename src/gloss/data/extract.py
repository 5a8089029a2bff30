"""The extraction stage: corpus → raw activations with provenance, in shards of whole documents.

    positions = drawn by (seed, document id) among the document's own tokens from ``min_position``
    on row       = output of block K there, unless its norm is far above what is usual in the
    document
A shard holds the rows of a fixed number of documents in corpus order, and is written when it is
complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gloss.contract import DatasetSidecar, write_dataset_sidecar
from gloss.data.sampling import sample_positions
from gloss.data.settings import ExtractConfig
from gloss.durable import folder_lock
from gloss.errors import ConfigError, CorpusError, ResumeError
from gloss.progress import Stage
from gloss.store.activations import (
    VECTOR_COLUMN,
    ActivationWriter,
    Norms,
    activation_schema,
    iter_activations,
    norm_statistics,
    norms_of,
    vector_column,
)
from gloss.store.record import StageRecord, fingerprint
from gloss.text.document import Document
from gloss.text.rendering import DocumentEncoder, EncodedDocument

if TYPE_CHECKING:
    from gloss.models.capture import Reading, ReadJob
    from gloss.target_model import Target

RECORD_NAME = "extract.json"
CREATED_BY = "gloss data extract"
_READ_AHEAD_CHARS = 50_000_000
_NOT_IN_FINGERPRINT = {"corpus", "attn_implementation"}


@dataclass(frozen=True, kw_only=True)
class ExtractCounts:
    """What became of documents and activations."""

    documents: int = 0
    empty: int = 0
    """Documents without text."""
    without_positions: int = 0
    """Documents that are too short to take an activation from."""
    rows: int = 0
    outliers: int = 0
    """Activations left out for their norm."""
    not_finite: int = 0
    """Activations left out because they hold NaN or infinity, or are zero."""

    def __add__(self, other: ExtractCounts) -> ExtractCounts:
        return ExtractCounts(
            **{key: value + getattr(other, key) for key, value in asdict(self).items()}
        )


@dataclass(frozen=True)
class ExtractResult:
    """The folder with shards and sidecar, what was counted, and the sidecar itself."""

    path: Path
    counts: ExtractCounts
    sidecar: DatasetSidecar


@dataclass(frozen=True)
class _Extraction:
    """One run of the stage."""

    config: ExtractConfig
    target: Target
    layer: int
    encoder: DocumentEncoder
    out_dir: Path


def extract(
    config: ExtractConfig,
    target: Target,
    documents: Iterable[Document],
    out_dir: Path,
    *,
    num_documents: int | None = None,
) -> ExtractResult:
    """Takes activations of documents and writes them to ``out_dir`` as Parquet shards with one
    sidecar.

    Run again after a stop with the same settings and documents, it keeps complete shards and gives
    the same bytes.
    ``num_documents`` is for the progress bar, where the corpus is long and its length is known.
    Raises: ConfigError, CorpusError if there is nothing to take, ResumeError if settings, target or
    documents differ; LockError, StorageError."""
    run = _Extraction(config, target, _layer(config, target), _encoder(config, target), out_dir)
    with folder_lock(out_dir):
        shards = _Shards(run, StageRecord.open(out_dir / RECORD_NAME, _settings(run)))
        documents, total = _with_total(documents, num_documents)
        with Stage("extract", total=total, unit="doc") as progress:
            for window in _windows(documents, config.shard_documents):
                shards.add(window)
                progress.advance(
                    len(window),
                    note=f"{sum(shard['rows'] for shard in shards.entries):,} activations",
                )
        return shards.finish()


class _Shards:
    """The shards of one run: kept where an earlier run completed them, else written."""

    def __init__(self, run: _Extraction, record: StageRecord) -> None:
        self.run, self.record = run, record
        self.entries: list[dict[str, Any]] = []
        self._kept: list[dict[str, Any]] = record.done.get("shards", [])
        self._norms: list[Norms] = []

    def add(self, documents: Sequence[Document]) -> None:
        """Keeps or writes the shard of the next documents."""
        index, digest = len(self.entries), _digest(documents)
        path = self.run.out_dir / f"shard-{index:05d}.parquet"
        if index < len(self._kept) and self._kept[index]["digest"] != digest:
            raise self._changed(f"other documents in shard {index}")
        if index < len(self._kept) and path.exists():
            self._norms.append(_norms_in(path))
            self.entries.append(self._kept[index])
            return
        counts, norms = _write_shard(self.run, documents, path)
        self._norms.append(norms)
        self.entries.append({"file": path.name, "digest": digest, **asdict(counts)})
        self.record.done["shards"] = self.entries + self._kept[len(self.entries) :]
        self.record.save()

    def finish(self) -> ExtractResult:
        """Writes the sidecar of all shards."""
        if len(self._kept) > len(self.entries):
            raise self._changed(
                f"{len(self.entries)} shards of documents, {len(self._kept)} before"
            )
        norms = np.concatenate([np.zeros(0), *self._norms])
        return _finish(self.run, self.record.settings, self.entries, norms)

    def _changed(self, found: str) -> ResumeError:
        return ResumeError(
            "the corpus has changed since this extraction began",
            where=self.run.out_dir,
            found=found,
            remedy="Choose another output, or remove this one",
        )


def _layer(config: ExtractConfig, target: Target) -> int:
    layer = target.default_layer if config.layer is None else config.layer
    if layer >= target.num_blocks:
        raise ConfigError(
            "extract.layer is beyond the target",
            expected=f"0 to {target.num_blocks - 1}",
            found=layer,
        )
    dtype = str(target.model.dtype).removeprefix("torch.")
    if dtype != config.dtype:
        raise ConfigError(
            "the target runs in another number format",
            expected=f"extract.dtype = {config.dtype!r}",
            found=dtype,
        )
    return layer


def _encoder(config: ExtractConfig, target: Target) -> DocumentEncoder:
    longest = (
        getattr(target.model.config.get_text_config(), "max_position_embeddings", None)
        or config.max_tokens
    )
    return DocumentEncoder(
        target.tokenizer, min(config.max_tokens, longest), config.exclude_template_tokens
    )


def _settings(run: _Extraction) -> dict[str, Any]:
    """What determines the bytes, apart from the documents; no path is among it."""
    from gloss.target_model import weights_fingerprint

    chosen = run.config.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT)
    tokenizer = run.target.tokenizer
    reading = {
        "size": len(tokenizer),
        "special": sorted(run.encoder.special_ids),
        "template": getattr(tokenizer, "chat_template", None),
    }
    return {
        **chosen,
        "layer": run.layer,
        "target": weights_fingerprint(run.target.model),
        "tokenizer": fingerprint(reading),
    }


def _with_total(
    documents: Iterable[Document], num_documents: int | None
) -> tuple[Iterator[Document], int]:
    """The documents and how many they are: as told, as their container says, or from reading
    ahead.
    """
    if num_documents is not None or isinstance(documents, Sized):
        return iter(documents), num_documents if num_documents is not None else len(documents)  # type: ignore[arg-type]
    rest, ahead, chars = iter(documents), [], 0
    for document in rest:
        ahead.append(document)
        chars += len(document.text or "") + sum(len(m["content"]) for m in document.messages or ())
        if chars > _READ_AHEAD_CHARS:
            return chain(ahead, rest), 0
    return iter(ahead), len(ahead)


def _windows(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while window := list(islice(documents, size)):
        yield window


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for document in documents:
        content = [document.doc_id, document.text, [dict(m) for m in document.messages or ()]]
        digest.update(json.dumps(content).encode())
    return digest.hexdigest()


def _write_shard(
    run: _Extraction, documents: Sequence[Document], path: Path
) -> tuple[ExtractCounts, Norms]:
    from gloss.models.capture import read_all

    config = run.config
    encoded = [document for document in run.encoder.encode(documents) if len(document.ids)]
    jobs = {
        i: job for i, document in enumerate(encoded) if (job := _job(config, document)) is not None
    }
    readings: dict[int, Reading] = {}
    indices = list(jobs)
    for k, reading in read_all(
        run.target,
        run.layer,
        list(jobs.values()),
        batch_tokens=config.batch_tokens,
        batch_size=config.batch_size,
        top_next_tokens=config.top_next_tokens,
    ):
        readings[indices[k]] = reading
    counts = ExtractCounts(
        documents=len(documents),
        empty=len(documents) - len(encoded),
        without_positions=len(encoded) - len(jobs),
    )
    schema = activation_schema(run.target.d_model, top_next_tokens=config.top_next_tokens > 0)
    with ActivationWriter(path, schema) as writer:
        for i in indices:
            table, found = _table(run, encoded[i], jobs[i], readings.pop(i), schema)
            writer.write(table)
            counts += found
    return counts, writer.norms


def _job(config: ExtractConfig, document: EncodedDocument) -> ReadJob | None:
    positions = sample_positions(
        len(document.ids),
        seed=config.seed,
        doc_id=document.doc_id,
        count=config.positions_per_doc,
        min_position=config.min_position,
        excluded=document.excluded,
    )
    if not positions:
        return None
    from gloss.models.capture import ReadJob

    length = positions[-1] + 1
    usual = [i for i in range(config.min_position, length) if i not in document.excluded]
    return ReadJob(document.ids[:length], positions, np.asarray(usual, dtype=np.int64))


def _table(
    run: _Extraction, document: EncodedDocument, job: ReadJob, reading: Reading, schema: pa.Schema
) -> tuple[pa.Table, ExtractCounts]:
    """The rows of one document that are worth keeping."""
    norms = np.linalg.norm(reading.vectors.astype(np.float64), axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    ratio = run.config.max_norm_ratio
    usual = usable if ratio is None else usable & (norms <= ratio * reading.median_norm)
    kept = np.flatnonzero(usual)
    positions = [job.positions[i] for i in kept.tolist()]
    tokens = [int(document.ids[p]) for p in positions]
    columns: dict[str, Any] = {
        "n_raw_tokens": [p + 1 for p in positions],
        "detokenized_text_truncated": [run.encoder.text_through(document, p) for p in positions],
        VECTOR_COLUMN: vector_column(reading.vectors[kept]),
        "activation_layer": [run.layer] * len(kept),
        "doc_id": [document.doc_id] * len(kept),
        "position": positions,
        "token_id": tokens,
        "token": [run.encoder.token_text(token) for token in tokens],
    }
    if "top_next_tokens" in schema.names:
        columns["top_next_tokens"] = [
            [run.encoder.token_text(t) for t in reading.next_ids[i]] for i in kept.tolist()
        ]
    counts = ExtractCounts(
        rows=len(kept), outliers=int((usable & ~usual).sum()), not_finite=int((~usable).sum())
    )
    return pa.table(columns, schema=schema), counts


def _norms_in(path: Path) -> Norms:
    return np.concatenate(
        [np.zeros(0), *map(norms_of, iter_activations(path, columns=[VECTOR_COLUMN]))]
    )


def _finish(
    run: _Extraction, settings: Mapping[str, Any], shards: Sequence[Mapping[str, Any]], norms: Norms
) -> ExtractResult:
    fields = ExtractCounts.__dataclass_fields__
    counts = sum(
        (ExtractCounts(**{key: shard[key] for key in fields}) for shard in shards), ExtractCounts()
    )
    if not counts.rows:
        raise CorpusError(
            "no activation could be taken",
            where=run.config.corpus or None,
            expected=f"documents of more than {run.config.min_position} tokens",
            found=(
                f"{counts.documents} documents, {counts.empty} empty, {counts.without_positions}"
                " too short"
            ),
            remedy="Use longer documents or a smaller extract.min_position",
        )
    name = Path(run.target.name).name
    identity = fingerprint([settings, [shard["digest"] for shard in shards]])[:8]
    sidecar = DatasetSidecar(
        dataset_id=f"base_{name}_L{run.layer}_{identity}",
        stage="base",
        row_count=counts.rows,
        base_model=run.target.name,
        d_model=run.target.d_model,
        layer=run.layer,
        corpus=run.config.corpus,
        corpus_slice={"start": 0, "length": counts.documents},
        positions_per_doc=run.config.positions_per_doc,
        norm_statistics=norm_statistics(norms),
        created_by=CREATED_BY,
        extra={"gloss": {"extract": run.config.model_dump(mode="json"), "counts": asdict(counts)}},
    )
    write_dataset_sidecar(sidecar, run.out_dir)
    return ExtractResult(run.out_dir, counts, sidecar)
