"""Explains any number of activations: in chunks, each a durable shard, so that runs can resume.

chunk → batches → ``Questions.explain`` → shard        all shards → one file, and the shards go
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor

from gloss import __version__
from gloss.contract import (
    SIDECAR_NAME,
    check_same_activations,
    read_dataset_sidecar,
    sidecar_path,
)
from gloss.durable import folder_lock
from gloss.errors import ActivationError, ConfigError, ResumeError
from gloss.nla import NLA, Questions, Sampling, Selection, run_now
from gloss.nla.request import Text
from gloss.nla.results import TokenExplanation
from gloss.nla.selection import Chosen, choose
from gloss.progress import Stage
from gloss.reading.tables import (
    Results,
    iter_results,
    joined,
    read_header,
    read_results,
    table_of,
    write_results,
)
from gloss.store.record import StageRecord, require_same_settings
from gloss.store.sources import (
    VectorSource,
    difference,
    file_fingerprint,
    memory_source,
    open_source,
)
from gloss.target_model import ModelPlace, commit_of

RECORD_NAME = "explain.json"
Activations = VectorSource | Path | str | Tensor


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(Sampling):
    """How many activations are explained: as one question, in pieces."""

    batch_size: int = 64
    """Responses generated side by side; results do not depend on it."""
    chunk_rows: int = 256
    """Activations behind one shard; a stopped run goes on after the last complete one."""
    limit: int | None = None
    """Explain only the first so many activations."""

    def __post_init__(self) -> None:
        """Raises ConfigError for a size below 1, and as ``Sampling``."""
        super().__post_init__()
        for name in ("batch_size", "chunk_rows", "limit"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ConfigError(name, expected="at least 1", found=size)


@dataclass(frozen=True)
class ExplainResult:
    """The finished file, its number of explanations and its header."""

    path: Path
    num_rows: int
    header: Mapping[str, Any]


@dataclass(frozen=True)
class _Run:
    """One run: ``num_rows`` activations in chunks, and the header of its table."""

    questions: Questions
    num_rows: int
    chunks: Iterator[Chosen]
    config: ExplainConfig
    header: Mapping[str, Any]

    def settings(self, header: Mapping[str, Any]) -> dict[str, Any]:
        """What of a header determines the result; names of folders do not."""
        apart = ("gloss_version", "target")
        found = {k: value for k, value in header["provenance"].items() if k not in apart}
        halves = {half: one["hash"] for half, one in found["nla"].items() if half != "name"}
        return found | {"nla": halves}


def explain_activations(
    nla: NLA,
    source: Activations,
    out: Path | str,
    config: ExplainConfig | None = None,
    *,
    minus: Activations | None = None,
) -> ExplainResult:
    """Explains activations of a file (.parquet, .npy, .safetensors) or array [n, d_model] into a
    Parquet file, with ``chunk_rows`` of them in memory; ``minus`` is subtracted row by row.

    Run again after a stop with the same settings and input, it keeps complete chunks and gives the
    same bytes; a finished file is left as it is.
    Raises: ConfigError, DatasetError, ActivationError, SidecarError if the activations are of
    another layer or width, ResumeError if ``out`` was made with other settings or input;
    TemplateError for a prompt; LockError, StorageError."""
    return _written(_run_of_file(nla, source, config or ExplainConfig(), minus), Path(out))


def explain_in_memory(
    nla: NLA,
    source: Activations,
    config: ExplainConfig | None = None,
    *,
    minus: Activations | None = None,
) -> Results:
    """As ``explain_activations``, for as many as fit into memory, without a file."""
    return _collected(_run_of_file(nla, source, config or ExplainConfig(), minus))


def explain_rows(
    nla: NLA,
    source: Activations,
    config: ExplainConfig | None = None,
    *,
    minus: Activations | None = None,
) -> Iterator[TokenExplanation]:
    """As ``explain_activations``, without a file: each explanation when its batch is done. They are
    the progress."""
    run = _run_of_file(nla, source, config or ExplainConfig(), minus)
    for chunk in run.chunks:
        for batch in _batches(run.questions, chunk, run.config):
            yield from batch


def explain_text(
    nla: NLA,
    source: Text,
    out: Path | str | None = None,
    *,
    selection: Selection | None = None,
    config: ExplainConfig | None = None,
) -> Results:
    """As ``NLA.explain``, a table that holds the text too, written to ``out`` if it is given.

    Raises: CorpusError, PositionError, and as ``explain_activations``.
    """
    config = config or ExplainConfig()
    questions = nla.questions(max_rows=config.batch_size)
    chosen = run_now(choose(questions, source, selection or Selection()))
    read, rows, size = chosen.read, len(chosen.vectors), config.chunk_rows
    assert read is not None
    document = {
        "text": read.text,
        "tokens": [token.token for token in read.tokens],
        "messages": None if read.messages is None else [*map(dict, read.messages)],
    }
    identity = memory_source(chosen.vectors).identity
    header = _header(questions, config, identity, {read.doc_id: document})
    chunks = (chosen[first : first + size] for first in range(0, rows, size))
    run = _Run(questions, rows, chunks, config, header)
    return _collected(run) if out is None else read_results(_written(run, Path(out)).path)


def explain_chunk(
    questions: Questions,
    chosen: Chosen,
    config: ExplainConfig,
    advance: Callable[[int], None] = lambda _: None,
) -> pa.Table:
    """The explanations of some activations, of columns ``RESULT_SCHEMA``."""
    tables = []
    for batch in _batches(questions, chosen, config):
        tables.append(table_of(batch))
        advance(len({one.row for one in batch}))
    return joined(tables)


def _batches(
    questions: Questions, chosen: Chosen, config: ExplainConfig
) -> Iterator[list[TokenExplanation]]:
    """The explanations of as many activations at once as the settings allow."""
    size = max(1, config.batch_size // config.num_draws)
    for first in range(0, len(chosen.vectors), size):
        yield run_now(questions.explain_chosen(chosen[first : first + size], config))


def _collected(run: _Run) -> Results:
    with Stage("explain", total=run.num_rows, unit="activation") as progress:
        asked, config = run.questions, run.config
        tables = [explain_chunk(asked, chunk, config, progress.advance) for chunk in run.chunks]
    return Results(joined(tables), run.header)


def _written(run: _Run, out: Path) -> ExplainResult:
    parts = out.with_name(f"{out.name}.parts")
    if out.exists():
        header = read_header(out)
        require_same_settings(run.settings(header), run.settings(run.header), where=out)
        shutil.rmtree(parts, ignore_errors=True)
        return ExplainResult(out, sum(map(len, iter_results(out))), header)
    with folder_lock(parts):
        record = StageRecord.open(parts / RECORD_NAME, run.settings(run.header))
        with Stage("explain", total=run.num_rows, unit="activation") as progress:
            shards = [
                _shard(run, record, parts / f"shard-{index:06d}.parquet", index, chunk, progress)
                for index, chunk in enumerate(run.chunks)
            ]
        tables = (table for shard in shards for table in iter_results(shard))
        num_rows = write_results(out, tables, run.header)
        shutil.rmtree(parts)
    return ExplainResult(out, num_rows, run.header)


def _shard(
    run: _Run, record: StageRecord, path: Path, index: int, chunk: Chosen, progress: Stage
) -> Path:
    """The file of one chunk, kept where an earlier run completed it for the same activations."""
    digests = record.done.setdefault("digests", [])
    data = chunk.vectors.contiguous().numpy().tobytes()
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    if index < len(digests) and path.exists():
        if digests[index] != digest:
            raise ResumeError(
                "the activations have changed since this began",
                where=path.parent,
                found=f"other activations from row {chunk.known[0]['row']} on",
                remedy="Choose another --out, or remove this folder",
            )
        progress.advance(len(chunk.vectors))
        return path
    write_results(path, [explain_chunk(run.questions, chunk, run.config, progress.advance)], {})
    record.done["digests"] = [*digests[:index], digest, *digests[index + 1 :]]
    record.save()
    return path


def _run_of_file(
    nla: NLA, source: Activations, config: ExplainConfig, minus: Activations | None
) -> _Run:
    opened = open_for(nla, source)
    if minus is not None:
        opened = difference(opened, open_for(nla, minus))
    if not opened.num_rows:
        where = source if isinstance(source, Path) else None
        raise ActivationError("there are no activations to explain", where=where)
    num_rows = min(opened.num_rows, config.limit or opened.num_rows)
    questions = nla.questions(max_rows=config.batch_size)

    def chunks() -> Iterator[Chosen]:
        for rows in opened.chunks(config.chunk_rows):
            yield run_now(choose(questions, rows, Selection()))[: num_rows - rows.first]
            if rows.first + len(rows.vectors) >= num_rows:
                return

    return _Run(questions, num_rows, chunks(), config, _header(questions, config, opened.identity))


def open_for(nla: NLA, source: Activations) -> VectorSource:
    """Opens activations; ActivationError for another width or layer, as far as the input says."""
    opened, file = open_source(source), source if isinstance(source, str | Path) else None
    width, layer = opened.d_model, opened.layer
    if width != nla.sidecar.d_model:
        what, expected = "activations of another width", nla.sidecar.d_model
        raise ActivationError(what, where=file, expected=expected, found=width)
    if layer is not None and layer != nla.layer:
        what, known = "activations of another layer", f"layer {nla.layer}, which this NLA explains"
        raise ActivationError(what, where=file, expected=known, found=layer)
    if file is not None and sidecar_path(Path(file)).is_file() and Path(file).suffix != ".npy":
        check_same_activations(nla.sidecar, read_dataset_sidecar(Path(file)))
    return opened


def _header(
    questions: Questions,
    config: ExplainConfig,
    identity: list[str],
    documents: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What made the explanations, and the texts that were read."""
    nla = questions.nla
    provenance = {
        "gloss_version": __version__,
        "nla": nla_identity(nla, with_ar=questions.has_ar),
        "target": _target_identity(nla, read=documents is not None),
        "layer": nla.layer,
        "input": identity,
        "engine": nla.engine_kind,
        "sampling": {
            "samples": config.samples,
            "best_of": config.best_of,
            "temperature": config.applied_temperature,
            "max_new_tokens": config.max_new_tokens or nla.max_new_tokens,
            "seed": config.seed,
        },
        "prompt": config.prompt,
        "limit": config.limit,
        "chunk_rows": config.chunk_rows,
    }
    return {"provenance": provenance, "documents": dict(documents or {})}


def nla_identity(nla: NLA, *, with_ar: bool) -> dict[str, Any]:
    """Name, and for each half that is used its revision and hash.

    The hash covers the sidecar and the commit on the hub, or of a local folder samples of every
    safetensors file: it takes no time and still differs after a training step."""
    halves = {"av": nla.places.av, **({"ar": nla.places.ar} if with_ar else {})}
    known = {half: _half(place) for half, place in halves.items() if place is not None}
    return {"name": nla.name, **known}


def _half(place: ModelPlace) -> dict[str, Any]:
    sidecar, commit = place.file(SIDECAR_NAME), _commit(place, SIDECAR_NAME)
    digest = hashlib.blake2b((commit or "").encode(), digest_size=16)
    if sidecar is not None:
        digest.update(sidecar.read_bytes())
    if commit is None and place.is_local:
        for file in sorted(Path(place.name).glob("*.safetensors")):
            digest.update(f"{file.name} {file_fingerprint(file)}".encode())
    return {"revision": commit or place.revision, "hash": digest.hexdigest()}


def _target_identity(nla: NLA, *, read: bool) -> dict[str, Any]:
    """Name and revision of the target, looked up only if it was ``read`` and so is at hand."""
    place = nla.places.target
    name = str(place) if place is not None else nla.sidecar.base_checkpoint
    found = place if place is not None or not read else ModelPlace.of(name)
    commit = _commit(found, "config.json") if read and found is not None else None
    return {"name": name, "revision": commit or (None if found is None else found.revision)}


def _commit(place: ModelPlace, file: str) -> str | None:
    found = place.file(file)
    return None if found is None else commit_of(found.parent)
