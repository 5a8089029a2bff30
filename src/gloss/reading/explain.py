"""Explains any number of activations: in chunks, each a durable shard, so that a stopped run goes
on with the same result.

chunk → batches → AV (samples × best-of responses each, seed keyed on the batch's first row) → AR
scores → shard all shards → one file, and the shards go"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field

from gloss import __version__
from gloss.contract import check_same_activations, read_dataset_sidecar, sidecar_path
from gloss.durable import folder_lock
from gloss.errors import ActivationError, ConfigError, ResumeError
from gloss.nla import NLA, TokenExplanation
from gloss.nla.flags import activation_flags
from gloss.nla.results import FAILED
from gloss.progress import Stage
from gloss.reading.provenance import nla_identity, target_identity
from gloss.reading.tables import RESULT_SCHEMA, Results, iter_results, read_header, write_results
from gloss.seeds import keyed_bits
from gloss.store.record import StageRecord, require_same_settings
from gloss.store.sources import DifferenceSource, VectorRows, VectorSource, open_source
from gloss.text.rendering import special_token_ids

RECORD_NAME = "explain.json"
NO_DIRECTION = "no direction"
"""Flag of a zero or non-finite activation, which no AV can read; its row has no explanation."""


class ExplainConfig(BaseModel):
    """How activations are explained."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    samples: int = Field(default=1, ge=1)
    """Explanations kept per activation."""
    best_of: int = Field(default=1, ge=1)
    """Responses drawn for each explanation that is kept: the one from which the AR rebuilds the
    activation best.
    """
    temperature: float | None = Field(default=None, ge=0)
    """0 is greedy; not set, one response per activation is greedy and several are drawn at 1."""
    prompt: str | None = None
    """An AV prompt instead of the recorded one, with <INJECT> once."""
    batch_size: int = Field(default=64, ge=1)
    """Responses generated side by side."""
    chunk_rows: int = Field(default=256, ge=1)
    """Activations behind one shard; a stopped run goes on after the last complete one."""
    limit: int | None = Field(default=None, ge=1)
    """Explain only the first so many activations."""
    seed: int = 0
    """Seed of sampling."""

    @property
    def draws(self) -> int:
        """Responses per activation."""
        return self.samples * self.best_of

    @property
    def heat(self) -> float:
        """The temperature in force."""
        return (
            self.temperature if self.temperature is not None else (0.0 if self.draws == 1 else 1.0)
        )


@dataclass(frozen=True)
class ExplainResult:
    """The finished file, its number of rows (explanations) and its header."""

    path: Path
    num_rows: int
    header: Mapping[str, Any]


@dataclass(frozen=True)
class _Reading:
    """One run: NLA (with its prompt), source, settings."""

    nla: NLA
    source: VectorSource
    config: ExplainConfig
    header: Mapping[str, Any]

    @property
    def num_rows(self) -> int:
        return min(self.source.num_rows, self.config.limit or self.source.num_rows)

    def chunks(self) -> Iterator[VectorRows]:
        for rows in self.source.chunks(self.config.chunk_rows):
            yield _first_rows(rows, self.num_rows - rows.first)
            if rows.first + len(rows.vectors) >= self.num_rows:
                return


def explain_activations(
    nla: NLA,
    source: VectorSource | Path | str | torch.Tensor,
    out: Path | str,
    config: ExplainConfig | None = None,
    *,
    minus: VectorSource | Path | str | torch.Tensor | None = None,
    documents: Mapping[str, Any] | None = None,
) -> ExplainResult:
    """Explains the activations of a file (.parquet, .npy, .safetensors) or array [n, d_model] into
    a Parquet file.

    Only ``chunk_rows`` activations are in memory. Run again after a stop with the same settings and
    input, it keeps complete chunks and gives the same bytes; a finished file is left as it is.
    ``minus`` is subtracted row by row (one row: from all).
    ``documents`` are the texts that were read, for the header.
    Raises: ConfigError, DatasetError, ActivationError, SidecarError if the activations are of
    another layer or width, ResumeError if ``out`` was made with other settings or input;
    TemplateError for a prompt; LockError, StorageError."""
    out = Path(out)
    reading = _prepare(nla, source, config or ExplainConfig(), minus, documents or {})
    if (done := _finished(out, reading)) is not None:
        return done
    parts = out.with_name(f"{out.name}.parts")
    with folder_lock(parts):
        record = StageRecord.open(parts / RECORD_NAME, _settings(reading))
        with Stage("explain", total=reading.num_rows, unit="activation") as progress:
            shards = [
                _shard(reading, record, parts, index, rows, progress)
                for index, rows in enumerate(reading.chunks())
            ]
        num_rows = write_results(
            out, (t for shard in shards for t in iter_results(shard)), reading.header
        )
        shutil.rmtree(parts)
    return ExplainResult(out, num_rows, reading.header)


def explain_in_memory(
    nla: NLA,
    source: VectorSource | Path | str | torch.Tensor,
    config: ExplainConfig | None = None,
    *,
    minus: VectorSource | Path | str | torch.Tensor | None = None,
    documents: Mapping[str, Any] | None = None,
) -> Results:
    """As ``explain_activations``, for as many as fit into memory, without a file."""
    reading = _prepare(nla, source, config or ExplainConfig(), minus, documents or {})
    with Stage("explain", total=reading.num_rows, unit="activation") as progress:
        tables = [
            explain_rows(reading.nla, rows, reading.config, progress.advance)
            for rows in reading.chunks()
        ]
    return Results(pa.concat_tables([RESULT_SCHEMA.empty_table(), *tables]), reading.header)


def explain_rows(
    nla: NLA,
    rows: VectorRows,
    config: ExplainConfig,
    advance: Callable[[int], None] = lambda _: None,
) -> pa.Table:
    """The explanations of some rows, of columns ``RESULT_SCHEMA``: ``config.samples`` for each,
    side by side.
    """
    usable = (
        (torch.isfinite(rows.vectors).all(dim=1) & (rows.vectors != 0).any(dim=1))
        .nonzero()
        .flatten()
        .tolist()
    )
    found: dict[int, list[TokenExplanation]] = {}
    at_once = max(1, config.batch_size // config.draws)
    for start in range(0, len(usable), at_once):
        batch = usable[start : start + at_once]
        items = nla.explain(
            rows.vectors[batch],
            samples=config.draws,
            temperature=config.heat,
            seed=keyed_bits(config.seed, str(rows.first + batch[0]), purpose="explanation") >> 1,
            score=True if config.best_of > 1 else None,
        )
        for i, row in enumerate(batch):
            found[row] = _kept(items[i * config.draws : (i + 1) * config.draws], config.best_of)
        advance(len(batch))
    advance(len(rows.vectors) - len(usable))
    table = [
        line
        for row in range(len(rows.vectors))
        for line in _lines(nla, rows, row, found.get(row, []))
    ]
    return pa.Table.from_pylist(table, schema=RESULT_SCHEMA)


def _prepare(
    nla: NLA, source: Any, config: ExplainConfig, minus: Any, documents: Mapping[str, Any]
) -> _Reading:
    if config.best_of > 1 and config.heat == 0:
        raise ConfigError(
            "best-of needs different responses", expected="a temperature above 0", found=0
        )
    opened: VectorSource = open_source(source)
    _check(nla, opened, source)
    if minus is not None:
        other = open_source(minus)
        _check(nla, other, minus)
        opened = DifferenceSource(opened, other)
    if not opened.num_rows:
        raise ActivationError(
            "there are no activations to explain",
            where=source if isinstance(source, Path) else None,
        )
    scored = nla.places.ar is not None
    provenance = {
        "gloss_version": __version__,
        "nla": nla_identity(nla, with_ar=scored),
        "target": target_identity(nla, read=bool(documents)),
        "layer": nla.layer,
        "input": opened.identity,
        "engine": nla.engine_kind,
        "sampling": {
            "samples": config.samples,
            "best_of": config.best_of,
            "temperature": config.heat,
            "max_new_tokens": nla.max_new_tokens,
            "seed": config.seed,
            "batch_size": config.batch_size,
        },
        "prompt": config.prompt,
        "limit": config.limit,
        "chunk_rows": config.chunk_rows,
    }
    read_with = nla if config.prompt is None else nla.with_prompt(config.prompt)
    return _Reading(
        read_with, opened, config, {"provenance": provenance, "documents": dict(documents)}
    )


def _check(nla: NLA, opened: VectorSource, source: Any) -> None:
    """Refuses activations of another width or layer, as far as the input says."""
    if opened.d_model != nla.sidecar.d_model:
        raise ActivationError(
            "activations of another width",
            where=_name(source),
            expected=nla.sidecar.d_model,
            found=opened.d_model,
        )
    if opened.layer is not None and opened.layer != nla.layer:
        raise ActivationError(
            "activations of another layer",
            where=_name(source),
            expected=f"layer {nla.layer}, which this NLA explains",
            found=opened.layer,
        )
    if (
        isinstance(source, str | Path)
        and sidecar_path(Path(source)).is_file()
        and Path(source).suffix != ".npy"
    ):
        check_same_activations(nla.sidecar, read_dataset_sidecar(Path(source)))


def _name(source: Any) -> str | None:
    return str(source) if isinstance(source, str | Path) else None


def _settings(reading: _Reading) -> dict[str, Any]:
    """What determines the result; names of folders do not."""
    settings = dict(reading.header["provenance"])
    settings.pop("gloss_version")
    settings["nla"] = {
        half: values["hash"] for half, values in settings["nla"].items() if half != "name"
    }
    settings.pop("target")
    return settings


def _finished(out: Path, reading: _Reading) -> ExplainResult | None:
    """The result, if it is there already.

    Raises: ResumeError if it was made with other settings; DatasetError if it is another kind of
    file."""
    if not out.exists():
        return None
    header = read_header(out)
    before = _Reading(reading.nla, reading.source, reading.config, header)
    require_same_settings(_settings(before), _settings(reading), where=out)
    shutil.rmtree(out.with_name(f"{out.name}.parts"), ignore_errors=True)
    return ExplainResult(out, sum(len(table) for table in iter_results(out)), header)


def _shard(
    reading: _Reading,
    record: StageRecord,
    parts: Path,
    index: int,
    rows: VectorRows,
    progress: Stage,
) -> Path:
    """The file of one chunk: kept where an earlier run completed it for the same activations, else
    written.
    """
    path, digests = parts / f"shard-{index:06d}.parquet", record.done.setdefault("digests", [])
    digest = hashlib.blake2b(rows.vectors.contiguous().numpy().tobytes(), digest_size=8).hexdigest()
    if index < len(digests) and path.exists():
        if digests[index] != digest:
            raise ResumeError(
                "the activations have changed since this began",
                where=parts,
                found=f"other activations from row {rows.first} on",
                remedy="Choose another --out, or remove this folder",
            )
        progress.advance(len(rows.vectors))
        return path
    write_results(path, [explain_rows(reading.nla, rows, reading.config, progress.advance)], {})
    record.done["digests"] = [*digests[:index], digest, *digests[index + 1 :]]
    record.save()
    return path


def _kept(items: Sequence[TokenExplanation], best_of: int) -> list[TokenExplanation]:
    """Of each ``best_of`` responses the one with the least error; one without explanation only
    where all are.
    """
    groups = [items[i : i + best_of] for i in range(0, len(items), best_of)]
    return [
        min(group, key=lambda e: float("inf") if e.direction_mse is None else e.direction_mse)
        for group in groups
    ]


def _lines(
    nla: NLA, rows: VectorRows, row: int, items: Sequence[TokenExplanation]
) -> Iterator[dict[str, Any]]:
    known = {name: values[row] for name, values in rows.columns.items()}
    marked = list(known.pop("flags", []))
    norm = float(rows.vectors[row].double().norm())
    shared = {**known, "row": rows.first + row, "norm": norm}
    if not items:
        yield {**shared, "flags": [*marked, NO_DIRECTION], "sample": 0, "response": ""}
        return
    token_id = known.get("token_id")
    flags = activation_flags(
        norm=norm,
        norm_statistics=nla.recorded.get("norm_statistics", {}),
        position=known.get("position"),
        min_position=nla.recorded.get("min_position"),
        special=token_id is not None and token_id in special_token_ids(nla.av.tokenizer),
    )
    for sample, item in enumerate(items):
        values = asdict(item)
        scores = {
            name: values[name] for name in ("text", "response", "fve", "cosine", "direction_mse")
        }
        failed = [FAILED] if item.text is None else []
        yield {
            **shared,
            "flags": list(dict.fromkeys([*flags, *marked, *failed])),
            "sample": sample,
            **scores,
        }


def _first_rows(rows: VectorRows, count: int) -> VectorRows:
    if count >= len(rows.vectors):
        return rows
    columns = {name: values[:count] for name, values in rows.columns.items()}
    return VectorRows(rows.first, rows.vectors[:count], columns)
