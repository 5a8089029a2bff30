"""The extraction stage: corpus → raw activations with provenance, in shards of whole documents.

positions = drawn by (seed, document id) among the document's own tokens from ``min_position`` on
row       = output of block K there, unless its norm is far above what is usual in the document"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gloss.contract import DatasetSidecar, write_dataset_sidecar
from gloss.data.extract_counts import (
    ExtractCounts,
    LeftOut,
    corpus_lines,
    nothing_taken,
    summed,
)
from gloss.data.settings import ExtractConfig
from gloss.data.staging import StageRun, stage_run
from gloss.errors import ConfigError, CorpusError, ResumeError
from gloss.foreign import json_text
from gloss.seeds import keyed_bits
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
from gloss.store.record import fingerprint
from gloss.text.document import Document
from gloss.text.rendering import DocumentEncoder, EncodedDocument

if TYPE_CHECKING:
    from gloss.models.capture import Reading, ReadJob
    from gloss.target_model import Target

_READ_AHEAD_CHARS = 50_000_000
_NOT_IN_FINGERPRINT = {"corpus", "attn_implementation", "max_refused"}


@dataclass(frozen=True)
class ExtractResult:
    """The folder with shards and sidecar, what was counted, and the sidecar itself."""

    path: Path
    counts: ExtractCounts
    sidecar: DatasetSidecar


@dataclass(frozen=True)
class _Extraction:
    config: ExtractConfig
    target: Target
    layer: int
    encoder: DocumentEncoder


def extract(
    config: ExtractConfig,
    target: Target,
    documents: Iterable[Document],
    out_dir: Path,
    *,
    num_documents: int | None = None,
) -> ExtractResult:
    """Takes activations of documents and writes them as Parquet shards with one sidecar.

    Run again after a stop it keeps complete shards and gives the same bytes; ``num_documents`` is
    for the progress bar. Raises: ConfigError, CorpusError without activations, ResumeError if
    settings, target or documents differ; LockError, StorageError."""
    work = _Extraction(config, target, _layer(config, target), _encoder(config, target))
    source = documents
    documents, total = _with_total(documents, num_documents)
    with stage_run("extract", out_dir, _settings(work), defaults=_defaults()) as run:
        before: list[dict[str, Any]] = run.done.get("shards", [])
        shards: list[dict[str, Any]] = []
        norms: list[Norms] = []
        left_out = LeftOut(config)
        with run.progress(total, "doc") as progress:
            while window := list(islice(documents, config.shard_documents)):
                index, digest = len(shards), _digest(window)
                path = out_dir / f"shard-{index:05d}.parquet"
                kept = before[index] if index < len(before) else None
                if kept is not None and kept["digest"] != digest:
                    raise _changed(out_dir, f"other documents in shard {index}")
                new = left_out.without_repeated(window)
                if kept is not None and path.exists():
                    shards.append(kept)
                    norms.append(_norms_in(path))
                else:
                    counts, found = _write_shard(work, new, path, left_out)
                    again = len(window) - len(new)
                    counts += ExtractCounts(documents=again, repeated=again)
                    shards.append({"file": path.name, "digest": digest, **asdict(counts)})
                    norms.append(found)
                    run.finish(shards=shards + before[len(shards) :])
                left_out.check(summed(shards))
                rows = sum(shard["rows"] for shard in shards)
                progress.advance(len(window), note=f"{rows:,} activations")
        if len(before) > len(shards):
            raise _changed(out_dir, f"{len(shards)} shards of documents, {len(before)} before")
        left_out.check(summed(shards), at_end=True)
        sidecar, total_counts = _sidecar(work, run, np.concatenate([np.zeros(0), *norms]))
        for line in (*corpus_lines(source), *left_out.lines(total_counts)):
            print(f"{run.name}: {line}", file=sys.stderr)
        write_dataset_sidecar(sidecar, out_dir)
        for shard, found in zip(shards, norms, strict=True):
            write_dataset_sidecar(_shard_sidecar(sidecar, shard, found), out_dir / shard["file"])
        return ExtractResult(out_dir, total_counts, sidecar)


def _shard_sidecar(whole: DatasetSidecar, shard: Mapping[str, Any], norms: Norms) -> DatasetSidecar:
    """One shard's own sidecar, for tools that are given the file alone."""
    return replace(
        whole,
        dataset_id=f"{whole.dataset_id}__{Path(shard['file']).stem}",
        row_count=shard["rows"],
        norm_statistics=norm_statistics(norms),
    )


def _changed(out_dir: Path, found: str) -> ResumeError:
    what = "the corpus has changed since this extraction began"
    remedy = "Choose another output, or remove this one"
    return ResumeError(what, where=out_dir, found=found, remedy=remedy)


def _layer(config: ExtractConfig, target: Target) -> int:
    layer = target.default_layer if config.layer is None else config.layer
    if layer >= target.num_blocks:
        what, expected = "extract.layer is beyond the target", f"0 to {target.num_blocks - 1}"
        raise ConfigError(what, expected=expected, found=layer)
    dtype = str(target.model.dtype).removeprefix("torch.")
    if dtype != config.dtype:
        what = "the target runs in another number format"
        raise ConfigError(what, expected=f"extract.dtype = {config.dtype!r}", found=dtype)
    return layer


def _encoder(config: ExtractConfig, target: Target) -> DocumentEncoder:
    limits = target.model.config.get_text_config()
    longest = getattr(limits, "max_position_embeddings", None) or config.max_tokens
    cap = min(config.max_tokens, longest)
    return DocumentEncoder(target.tokenizer, cap, config.exclude_template_tokens)


def _settings(work: _Extraction) -> dict[str, Any]:
    """What determines the bytes, apart from the documents; no path is among it."""
    from gloss.target_model import weights_fingerprint

    tokenizer = work.target.tokenizer
    reading = {
        "size": len(tokenizer),
        "special": sorted(work.encoder.special_ids),
        "template": getattr(tokenizer, "chat_template", None),
    }
    return {
        **work.config.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT),
        "layer": work.layer,
        "target": weights_fingerprint(work.target.model),
        "tokenizer": fingerprint(reading),
    }


def _defaults() -> dict[str, Any]:
    found = ExtractConfig.defaults()
    return {name: value for name, value in found.items() if name not in _NOT_IN_FINGERPRINT}


def _with_total(
    documents: Iterable[Document], num_documents: int | None
) -> tuple[Iterator[Document], int]:
    """The documents, and how many: as told, as their container says, or from reading ahead."""
    if num_documents is None and isinstance(documents, Sized):
        num_documents = len(documents)
    if num_documents is not None:
        return iter(documents), num_documents
    rest, ahead, chars = iter(documents), [], 0
    for document in rest:
        ahead.append(document)
        chars += len(document.text or "")
        chars += sum(len(m.get("content") or "") for m in document.messages or ())
        if chars > _READ_AHEAD_CHARS:
            return chain(ahead, rest), 0
    return iter(ahead), len(ahead)


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for document in documents:
        content: list[Any] = [
            document.doc_id,
            document.text,
            [dict(m) for m in document.messages or ()],
        ]
        options = dict(document.template_options)
        content += [options] if options else []
        content += [document.rendered] if document.rendered else []
        digest.update(json_text(content, only_ascii=True).encode())
    return digest.hexdigest()


def _write_shard(
    work: _Extraction, documents: Sequence[Document], path: Path, left_out: LeftOut
) -> tuple[ExtractCounts, Norms]:
    from gloss.models.capture import read_all

    config = work.config
    read, refused = _with_rows(work, *_encode(work, documents, left_out), left_out)
    encoded = [document for document in read if len(document.ids)]
    jobs = [(document, job) for document in encoded if (job := _job(config, document)) is not None]
    sizes = config.model_dump(include={"batch_tokens", "batch_size", "top_next_tokens"})
    readings = dict(read_all(work.target, work.layer, [job for _, job in jobs], **sizes))
    counts = ExtractCounts(
        documents=len(documents),
        empty=len(read) - len(encoded),
        refused=refused,
        cut=sum(document.cut for document in encoded),
        without_positions=len(encoded) - len(jobs),
    )
    schema = activation_schema(work.target.d_model, top_next_tokens=config.top_next_tokens > 0)
    with ActivationWriter(path, schema) as writer:
        for i, (document, job) in enumerate(jobs):
            table, found = _table(work, document, job, readings.pop(i), schema)
            writer.write(table)
            counts += found
    return counts, writer.norms


def _encode(
    work: _Extraction, documents: Sequence[Document], left_out: LeftOut
) -> tuple[list[EncodedDocument], int]:
    """The documents that the target can read, and how many it cannot."""
    try:
        return work.encoder.encode(documents), 0
    except CorpusError:
        pass
    read, refused = [], 0
    for document in documents:
        try:
            read += work.encoder.encode([document])
        except CorpusError as error:
            left_out.refusals.add(str(error))
            refused += 1
    return read, refused


def _with_rows(
    work: _Extraction, read: Sequence[EncodedDocument], refused: int, left_out: LeftOut
) -> tuple[list[EncodedDocument], int]:
    """Those whose tokens all have a row in the target's embedding, and how many are refused."""
    rows, kept = work.target.model.get_input_embeddings().num_embeddings, []
    for document in read:
        beyond = document.ids[document.ids >= rows]
        if len(beyond):
            token = work.encoder.token_text(int(beyond[0]))
            reason = f"token {token!r} has no row in the target's embedding"
            left_out.refusals.add(f"{document.doc_id}: {reason}")
        else:
            kept.append(document)
    return kept, refused + len(read) - len(kept)


def sample_positions(
    num_tokens: int,
    *,
    seed: int,
    doc_id: str,
    count: int,
    min_position: int,
    excluded: Collection[int] = (),
) -> list[int]:
    """Up to ``count`` distinct token indices from ``min_position`` on, ascending.

    The draw is keyed on (seed, document id) alone, not on paths, order or other documents."""
    barred = excluded if isinstance(excluded, set | frozenset) else set(excluded)
    candidates = [i for i in range(max(0, min_position), num_tokens) if i not in barred]
    rng = random.Random(keyed_bits(seed, doc_id, purpose="positions"))
    for i in range(min(count, len(candidates))):
        j = i + int(rng.random() * (len(candidates) - i))
        candidates[i], candidates[j] = candidates[j], candidates[i]
    return sorted(candidates[:count])


def _job(config: ExtractConfig, document: EncodedDocument) -> ReadJob | None:
    from gloss.models.capture import ReadJob

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
    length = positions[-1] + 1
    usual = [i for i in range(config.min_position, length) if i not in document.excluded]
    return ReadJob(document.ids[:length], positions, np.asarray(usual, dtype=np.int64))


def _table(
    work: _Extraction, document: EncodedDocument, job: ReadJob, reading: Reading, schema: pa.Schema
) -> tuple[pa.Table, ExtractCounts]:
    norms = np.linalg.norm(reading.vectors.astype(np.float64), axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    ratio = work.config.max_norm_ratio
    usual = usable if ratio is None else usable & (norms <= ratio * reading.median_norm)
    kept = np.flatnonzero(usual)
    positions = [job.positions[i] for i in kept.tolist()]
    tokens, token_text = [int(document.ids[p]) for p in positions], work.encoder.token_text
    columns: dict[str, Any] = {
        "n_raw_tokens": [p + 1 for p in positions],
        "detokenized_text_truncated": [work.encoder.text_through(document, p) for p in positions],
        VECTOR_COLUMN: vector_column(reading.vectors[kept]),
        "activation_layer": [work.layer] * len(kept),
        "doc_id": [document.doc_id] * len(kept),
        "position": positions,
        "token_id": tokens,
        "token": [token_text(token) for token in tokens],
    }
    if "top_next_tokens" in schema.names:
        columns["top_next_tokens"] = [
            [token_text(token) for token in reading.next_ids[i]] for i in kept.tolist()
        ]
    counts = ExtractCounts(
        rows=len(kept), outliers=int((usable & ~usual).sum()), not_finite=int((~usable).sum())
    )
    return pa.table(columns, schema=schema), counts


def _norms_in(path: Path) -> Norms:
    tables = iter_activations(path, columns=[VECTOR_COLUMN])
    return np.concatenate([np.zeros(0), *map(norms_of, tables)])


def _sidecar(
    work: _Extraction, run: StageRun, norms: Norms
) -> tuple[DatasetSidecar, ExtractCounts]:
    config, target, shards = work.config, work.target, run.done.get("shards", [])
    counts = summed(shards)
    if not counts.rows:
        raise nothing_taken(config, counts)
    identity = fingerprint([run.settings, [shard["digest"] for shard in shards]])[:8]
    sidecar = DatasetSidecar(
        dataset_id=f"base_{Path(target.name).name}_L{work.layer}_{identity}",
        stage="base",
        row_count=counts.rows,
        base_model=target.name,
        d_model=target.d_model,
        layer=work.layer,
        corpus=config.corpus,
        corpus_slice={"start": 0, "length": counts.documents},
        positions_per_doc=config.positions_per_doc,
        norm_statistics=norm_statistics(norms),
        created_by=f"gloss data {run.name}",
        extra={"gloss": {"extract": config.model_dump(mode="json"), "counts": asdict(counts)}},
    )
    return sidecar, counts
