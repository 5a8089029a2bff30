"""The build stage: activations and labels become the prompts and responses of training.

av_sft                  prompt (chat with <INJECT>), response (the label between tags)
rl, heldout             prompt (chat with <INJECT>)
ar_sft, heldout_labels  prompt (the AR template around the label)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gloss.contract import (
    InjectionMarker,
    ar_prompt_ids,
    choose_marker,
    fill,
    marker_for,
    read_dataset_sidecar,
    wrap_explanation,
)
from gloss.data.label import LABEL_COLUMN
from gloss.data.settings import INJECT_PLACEHOLDER, BuildConfig
from gloss.data.split import check_document_disjoint
from gloss.data.staging import stage_run
from gloss.errors import DatasetError
from gloss.store.activations import (
    PROVENANCE,
    VECTOR_COLUMN,
    iter_activations,
    read_schema,
    require_columns,
)

_CHAT_TYPE = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PROVENANCE = ("detokenized_text_truncated", "position", "token_id", "token")
_KEPT = (VECTOR_COLUMN, "n_raw_tokens", "activation_layer", "doc_id", *_PROVENANCE)
_ODD_ENDINGS = ('quoted "words"', "ends with a line\n", "tags </a> <b>", "spaces  ")
_ENDING_PROBES = ("a short text.", "Numbers 17", "日本語", "x", *_ODD_ENDINGS)


@dataclass(frozen=True)
class BuildResult:
    """The datasets by name, their row counts, and the injection marker they are for."""

    paths: Mapping[str, Path]
    rows: Mapping[str, int]
    marker: InjectionMarker


@dataclass(frozen=True)
class _Kind:
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
    """Writes ``<name>.parquet`` for every input, named as above.

    Marker and AR suffix ids are found with the target's tokenizer and recorded in every sidecar; a
    tokenizer without a marker gets one added, in place. Raises: DatasetError for an unknown name,
    missing labels, a document in two inputs; MarkerError, TemplateError, ResumeError, LockError."""
    schemas = {name: _input_schema(name, path) for name, path in inputs.items()}
    parts = {name: path for name, path in inputs.items() if name != "heldout_labels"}
    check_document_disjoint(parts)
    parents = {name: read_dataset_sidecar(path) for name, path in inputs.items()}
    if config.marker:
        marker = marker_for(tokenizer, config.av_template, config.marker)
    else:
        marker = choose_marker(tokenizer, config.av_template).marker
    made: dict[str, Any] = {
        "av_template": config.av_template,
        "ar_template": config.ar_template,
        "marker": marker,
        "ar_suffix_ids": ar_suffix_ids(tokenizer, config.ar_template),
    }
    ids = [marker.token_id, marker.left_neighbor_id, marker.right_neighbor_id]
    settings = {
        **config.model_dump(mode="json"),
        "marker_ids": [marker.char, *ids],
        "ar_suffix_ids": list(made["ar_suffix_ids"]),
        "inputs": {name: [parent.dataset_id, parent.row_count] for name, parent in parents.items()},
    }
    paths = {name: out_dir / f"{name}.parquet" for name in inputs}
    with stage_run("build", out_dir, settings, defaults=config.defaults()) as run:
        if (done := run.finished(*paths.values())) is not None:
            return BuildResult(paths, done["rows"], marker)
        rows = {}
        with run.progress(sum(parent.row_count for parent in parents.values()), "row") as progress:
            for name, parent in parents.items():
                kind, found = _KINDS[name], schemas[name]
                kept = [found.field(column) for column in _KEPT if column in found.names]
                schema = pa.schema([*kind.fields, *kept])
                dataset_id = f"{name}_{parent.dataset_id}_{run.tag}"
                changes = {"stage": kind.stage, **made}
                with run.dataset(paths[name], schema, parent, dataset_id, **changes) as writer:
                    for table in iter_activations(inputs[name]):
                        writer.write(_rows(config, kind, table, schema))
                        progress.advance(len(table))
                rows[name] = writer.num_rows
        run.finish(*paths.values(), rows=rows)
        return BuildResult(paths, rows, marker)


def ar_suffix_ids(tokenizer: Any, ar_template: str) -> tuple[int, ...]:
    """The token ids that every AR prompt ends with. Raises: TemplateError."""
    prompts = [ar_prompt_ids(tokenizer, ar_template, text) for text in _ENDING_PROBES]
    length = 0
    while length < min(map(len, prompts)) and len({ids[-length - 1] for ids in prompts}) == 1:
        length += 1
    return tuple(prompts[0][len(prompts[0]) - length :])


def _input_schema(name: str, path: Path) -> pa.Schema:
    if name not in _KINDS:
        raise DatasetError(f"unknown dataset {name!r}", expected=f"some of {', '.join(_KINDS)}")
    schema = read_schema(path)
    require_columns(schema, PROVENANCE, path)
    if _KINDS[name].needs_labels and LABEL_COLUMN not in schema.names:
        remedy = "Label these activations with: gloss data label"
        raise DatasetError(f"no column {LABEL_COLUMN!r}", where=path, remedy=remedy)
    return schema


def _rows(config: BuildConfig, kind: _Kind, table: pa.Table, schema: pa.Schema) -> pa.Table:
    labels: list[str] = []
    if kind.needs_labels:
        written = [bool(text and text.strip()) for text in table[LABEL_COLUMN].to_pylist()]
        table = table.filter(pa.array(written, pa.bool_()))
        labels = table[LABEL_COLUMN].to_pylist()
    content = fill(config.av_template, injection_char=INJECT_PLACEHOLDER)
    prompts: list[Any] = [[{"role": "user", "content": content}]] * len(table)
    if kind is _AR:
        prompts = [fill(config.ar_template, explanation=text) for text in labels]
    made = {"prompt": prompts, "response": [wrap_explanation(text) for text in labels]}
    columns = [pa.array(made[name], type_) for name, type_ in kind.fields]
    kept = [table[name] for name in schema.names if name not in made]
    return pa.table([*columns, *kept], schema=schema)
