"""The build stage: labelled and unlabelled activations become the prompts and responses that
training reads.

av_sft          prompt (chat with the literal <INJECT>), response (the label between tags)
ar_sft          prompt (the AR template around the label)
rl, heldout     prompt (chat with the literal <INJECT>)
heldout_labels  prompt (the AR template around the label)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from gloss.contract import (
    DatasetSidecar,
    InjectionMarker,
    ar_prompt_ids,
    choose_marker,
    fill,
    marker_for,
    read_dataset_sidecar,
    wrap_explanation,
    write_dataset_sidecar,
)
from gloss.data.label import LABEL_COLUMN
from gloss.data.settings import INJECT_PLACEHOLDER, BuildConfig
from gloss.data.split import check_document_disjoint
from gloss.durable import folder_lock
from gloss.errors import DatasetError
from gloss.progress import Stage
from gloss.store.activations import VECTOR_COLUMN, ActivationWriter, iter_activations, read_schema
from gloss.store.record import StageRecord, fingerprint

RECORD_NAME = "build.json"
_CHAT_TYPE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_KEPT = (
    VECTOR_COLUMN,
    "n_raw_tokens",
    "activation_layer",
    "doc_id",
    "detokenized_text_truncated",
    "position",
    "token_id",
    "token",
)
_ENDING_PROBES = (
    "a short text.",
    "Numbers 17",
    'quoted "words"',
    "ends with a line\n",
    "日本語",
    "x",
    "tags </a> <b>",
    "spaces  ",
)


@dataclass(frozen=True)
class BuildResult:
    """The datasets by name, their row counts, and the injection marker they are for."""

    paths: Mapping[str, Path]
    rows: Mapping[str, int]
    marker: InjectionMarker


@dataclass(frozen=True)
class _Kind:
    """How one dataset is made: its stage in the sidecar, and the columns it puts before the kept
    ones.
    """

    stage: str
    fields: tuple[tuple[str, pa.DataType], ...]
    needs_labels: bool


_AV = _Kind("av_sft", (("prompt", _CHAT_TYPE), ("response", pa.string())), True)
_AR = _Kind("ar_sft", (("prompt", pa.string()),), True)
_RL = _Kind("rl", (("prompt", _CHAT_TYPE),), False)
_KINDS = {"av_sft": _AV, "ar_sft": _AR, "rl": _RL, "heldout": _RL, "heldout_labels": _AR}


def build(
    config: BuildConfig, inputs: Mapping[str, Path], tokenizer: Any, out_dir: Path
) -> BuildResult:
    """Writes ``<name>.parquet`` for every input; names are av_sft, ar_sft, rl, heldout and
    heldout_labels.

    av_sft, ar_sft and heldout_labels need labels. The injection marker and the AR's suffix ids are
    found with the target's tokenizer and recorded in every sidecar; a tokenizer without a marker
    gets one added, in place.
    Raises: DatasetError for an unknown name, missing labels or a document in two inputs,
    MarkerError, TemplateError, ResumeError, LockError, StorageError."""
    with folder_lock(out_dir):
        return _build(config, inputs, tokenizer, out_dir)


def _build(
    config: BuildConfig, inputs: Mapping[str, Path], tokenizer: Any, out_dir: Path
) -> BuildResult:
    unknown = sorted(set(inputs) - set(_KINDS))
    if unknown:
        raise DatasetError(
            f"unknown dataset {unknown[0]!r}", expected=f"some of {', '.join(_KINDS)}"
        )
    check_document_disjoint(
        {name: Path(path) for name, path in inputs.items() if name != "heldout_labels"}
    )
    parents = {name: read_dataset_sidecar(Path(path)) for name, path in inputs.items()}
    marker = (
        marker_for(tokenizer, config.av_template, config.marker)
        if config.marker
        else choose_marker(tokenizer, config.av_template).marker
    )
    suffix = ar_suffix_ids(tokenizer, config.ar_template)
    settings = {
        **config.model_dump(mode="json"),
        "marker_ids": [
            marker.char,
            marker.token_id,
            marker.left_neighbor_id,
            marker.right_neighbor_id,
        ],
        "ar_suffix_ids": list(suffix),
        "inputs": {name: [parent.dataset_id, parent.row_count] for name, parent in parents.items()},
    }
    record = StageRecord.open(out_dir / RECORD_NAME, settings)
    paths = {name: out_dir / f"{name}.parquet" for name in inputs}
    if record.done and all(path.exists() for path in paths.values()):
        return BuildResult(paths, record.done["rows"], marker)
    rows = {}
    with Stage(
        "build", total=sum(parent.row_count for parent in parents.values()), unit="row"
    ) as progress:
        for name, parent in parents.items():
            writer = _write(config, _KINDS[name], Path(inputs[name]), paths[name], progress)
            sidecar = _sidecar(parent, name, config, settings, writer)
            write_dataset_sidecar(
                replace(sidecar, marker=marker, ar_suffix_ids=suffix), paths[name]
            )
            rows[name] = writer.num_rows
    record.done = {"rows": rows}
    record.save()
    return BuildResult(paths, rows, marker)


def ar_suffix_ids(tokenizer: Any, ar_template: str) -> tuple[int, ...]:
    """The token ids that every AR prompt ends with, whatever the explanation.

    Raises: TemplateError.
    """
    prompts = [ar_prompt_ids(tokenizer, ar_template, text) for text in _ENDING_PROBES]
    length = 0
    while length < min(map(len, prompts)) and len({ids[-length - 1] for ids in prompts}) == 1:
        length += 1
    return tuple(prompts[0][len(prompts[0]) - length :])


def _write(
    config: BuildConfig, kind: _Kind, source: Path, path: Path, progress: Stage
) -> ActivationWriter:
    schema = read_schema(source)
    if kind.needs_labels and LABEL_COLUMN not in schema.names:
        raise DatasetError(
            f"no column {LABEL_COLUMN!r}",
            where=source,
            remedy="Label these activations with: gloss data label",
        )
    kept = [name for name in _KEPT if name in schema.names]
    out_schema = pa.schema([*kind.fields, *(schema.field(name) for name in kept)])
    with ActivationWriter(path, out_schema) as writer:
        for table in iter_activations(source):
            if kind.needs_labels:
                table = table.filter(
                    pa.array(
                        [bool(text and text.strip()) for text in table[LABEL_COLUMN].to_pylist()],
                        pa.bool_(),
                    )
                )
            made = _columns(config, kind, table)
            columns = [*(made[name] for name, _ in kind.fields), *(table[name] for name in kept)]
            writer.write(pa.table(columns, schema=out_schema))
            progress.advance(len(table))
    return writer


def _columns(config: BuildConfig, kind: _Kind, table: pa.Table) -> dict[str, pa.Array]:
    labels: Sequence[str] = table[LABEL_COLUMN].to_pylist() if kind.needs_labels else []
    if kind is _AR:
        return {
            "prompt": pa.array(
                [fill(config.ar_template, explanation=text) for text in labels], pa.string()
            )
        }
    prompt = [
        {"role": "user", "content": fill(config.av_template, injection_char=INJECT_PLACEHOLDER)}
    ]
    chat = pa.array([prompt] * len(table), _CHAT_TYPE)
    if kind is _RL:
        return {"prompt": chat}
    return {
        "prompt": chat,
        "response": pa.array([wrap_explanation(text) for text in labels], pa.string()),
    }


def _sidecar(
    parent: DatasetSidecar,
    name: str,
    config: BuildConfig,
    settings: Mapping[str, Any],
    writer: ActivationWriter,
) -> DatasetSidecar:
    return replace(
        parent,
        dataset_id=f"{name}_{parent.dataset_id}_{fingerprint(settings)[:6]}",
        stage=_KINDS[name].stage,
        row_count=writer.num_rows,
        av_template=config.av_template,
        ar_template=config.ar_template,
        norm_statistics=writer.norm_statistics,
        parent_datasets=(parent.dataset_id,),
        created_by="gloss data build",
    )
