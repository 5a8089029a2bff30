"""``inspect``: what a checkpoint is, from its sidecar, its config and its weights' headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from gloss.contract import SIDECAR_NAME, VALUE_HEAD_NAME
from gloss.contract.sidecar_yaml import read_yaml
from gloss.formatting import printable
from gloss.release.parts import Half, parts_of
from gloss.target_model.hub import commit_of

_SHOWN_VALUES = 8
_MARKER = "{char} = token {token_id}, between {left_neighbor_id} and {right_neighbor_id}"
_HALVES = {"av": "AV, activation verbalizer", "ar": "AR, activation reconstructor"}


@dataclass(frozen=True)
class CheckpointSummary:
    """One half of an NLA. ``recorded`` is the trust record; ``files`` are sizes in bytes."""

    place: str
    commit: str | None
    role: str
    base_checkpoint: str
    stage: str
    layer: int | None
    d_model: int
    num_blocks: int | None
    family: str | None
    injection_scale: float | None
    mse_scale: float
    marker: dict[str, Any] | None
    ar_suffix_ids: tuple[int, ...] | None
    av_template: str | None
    ar_template: str | None
    dialect: str
    schema_version: int | None
    created_by: str
    dtypes: dict[str, int]
    num_parameters: int
    recorded: dict[str, Any]
    files: dict[str, int]


def inspect(name: str | Path, *, revision: str | None = None) -> list[CheckpointSummary]:
    """What stands at a folder or hub id: one summary per half."""
    return [_summary(half) for half in parts_of(name, revision=revision).values()]


def _summary(half: Half) -> CheckpointSummary:
    file, sidecar = half.file(SIDECAR_NAME), half.sidecar
    values = read_yaml(file)
    config = half.config if half.file("config.json").is_file() else {}
    head = half.file_headers(VALUE_HEAD_NAME) if VALUE_HEAD_NAME in half.files else {}
    dtypes: Counter[str] = Counter()
    for header in (*half.headers.values(), *head.values()):
        dtypes[header.dtype] += header.parameter_count
    own = {field.name for field in fields(CheckpointSummary)} - {"marker", "schema_version"}
    return CheckpointSummary(
        **{name: value for name, value in vars(sidecar).items() if name in own},
        place=str(half.place),
        commit=commit_of(file.parent),
        num_blocks=config.get("num_hidden_layers"),
        family=config.get("model_type"),
        marker=asdict(sidecar.marker) if sidecar.marker else None,
        dialect=dialect_of(values),
        schema_version=values.get("schema_version"),
        dtypes=dict(dtypes),
        num_parameters=sum(dtypes.values()),
        recorded=sidecar.trust.recorded(),
        files=half.files,
    )


def dialect_of(values: Mapping[str, Any]) -> str:
    """``released`` (av/ar), ``internal`` (actor/critic, of reference training), ``minimal``."""
    templates = values.get("prompt_templates") or {}
    if values.get("role") in ("actor", "critic") or not {"av", "ar"} & set(templates):
        return "internal"
    minimal = "stage" not in values and "schema_version" not in values
    return "minimal" if minimal else "released"


def summary_table(summary: CheckpointSummary) -> Table:
    """Two columns: what, and its value; texts from files are shown without control characters."""
    title = printable(f"{summary.place}: {_HALVES[summary.role]}")
    table = Table(title=title, title_justify="left", show_header=False)
    marker, scale, dtypes = summary.marker, summary.injection_scale, summary.dtypes.items()
    shown = {
        "base": summary.base_checkpoint,
        "stage": summary.stage,
        "family": f"{summary.family}, {summary.num_blocks} blocks, d_model {summary.d_model}",
        "layer": summary.layer,
        "injection scale": "raw" if scale is None else scale,
        "mse scale": summary.mse_scale,
        "marker": marker and _MARKER.format(**marker),
        "AR suffix": list(summary.ar_suffix_ids or ()),
        "AV template": summary.av_template,
        "AR template": summary.ar_template,
        "weights": f"{summary.num_parameters:,} values: "
        + ", ".join(f"{dtype} {count:,}" for dtype, count in dtypes),
        "dialect": f"{summary.dialect}, schema version {summary.schema_version or 'not given'}",
        "made by": summary.created_by,
        "commit": summary.commit,
        **{f"recorded {name}": value for name, value in summary.recorded.items()},
        "files": "\n".join(f"{name}  {decimal(size)}" for name, size in summary.files.items()),
    }
    if summary.role == "ar":
        del shown["injection scale"]
    for name, value in shown.items():
        table.add_row(name, "—" if value in (None, "", []) else printable(_recorded(value)))
    return table


def _recorded(value: object) -> str:
    """A value that training noted; of a vector its width and length, as ``--json`` has the rest."""
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    if isinstance(value, list) and numbers and len(value) > _SHOWN_VALUES:
        return f"{len(value)} values, norm {sum(one * one for one in value) ** 0.5:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_recorded(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
