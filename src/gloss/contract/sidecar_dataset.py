"""The sidecar of a dataset, ``<file>.nla_meta.yaml``: what was extracted, how, and with which
prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gloss.contract.marker import InjectionMarker
from gloss.contract.sidecar import ModelSidecar, sidecar_path, token_values
from gloss.contract.sidecar_fields import FieldReader, check_templates, read_yaml, write_yaml
from gloss.errors import SidecarError

_READ_KEYS = {
    "kind",
    "schema_version",
    "dataset_id",
    "stage",
    "row_count",
    "extraction",
    "tokens",
    "prompt_templates",
    "api_summaries",
    "parent_datasets",
    "created_at",
    "created_by",
    "keep_debug_metadata",
    "git_commit",
}


@dataclass(frozen=True, kw_only=True)
class DatasetSidecar:
    """Everything about a Parquet file of activations; the vectors themselves are raw (``norm`` is
    always ``none``).
    """

    dataset_id: str
    stage: str
    row_count: int
    base_model: str
    d_model: int
    layer: int
    norm: str = "none"
    corpus: str = ""
    corpus_slice: Mapping[str, Any] = field(default_factory=dict)
    positions_per_doc: int | None = None
    marker: InjectionMarker | None = None
    av_template: str | None = None
    ar_template: str | None = None
    ar_suffix_ids: tuple[int, ...] | None = None
    norm_statistics: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    parent_datasets: tuple[str, ...] = ()
    created_at: str = ""
    created_by: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_dataset_sidecar(parquet: Path) -> DatasetSidecar:
    """Reads the sidecar beside a Parquet file (or in a folder of shards).

    Raises: SidecarError that names the file and the key; TemplateError for a template that cannot
    be filled."""
    file = sidecar_path(parquet)
    values = read_yaml(file)
    reader = FieldReader(values, file)
    reader.expect("kind", "nla_dataset")
    if reader.integer("schema_version", default=1) != 1:
        raise SidecarError(
            "unknown schema_version", where=file, expected=1, found=values["schema_version"]
        )
    extraction, tokens, templates = (
        reader.mapping(name) for name in ("extraction", "tokens", "prompt_templates")
    )
    char = tokens.text("injection_char")
    marker = None
    if char is not None:
        names = ("injection_token_id", "injection_left_neighbor_id", "injection_right_neighbor_id")
        marker = InjectionMarker(char, *(tokens.integer(name) for name in names))
    av_template, ar_template = templates.text("av", "actor"), templates.text("ar", "critic")
    check_templates(file, av=av_template, ar=ar_template)
    statistics = extraction.mapping("norm_statistics")
    return DatasetSidecar(
        dataset_id=reader.text("dataset_id", required=True) or "",
        stage=reader.text("stage") or "",
        row_count=reader.integer("row_count"),
        base_model=extraction.text("base_model") or "",
        d_model=extraction.integer("d_model", minimum=1),
        layer=extraction.integer("layer_index"),
        norm=_norm(extraction),
        corpus=extraction.text("corpus") or "",
        corpus_slice=dict(extraction.mapping("corpus_slice").values),
        positions_per_doc=extraction.integer("positions_per_doc", default=None),
        marker=marker,
        av_template=av_template,
        ar_template=ar_template,
        ar_suffix_ids=tokens.integers("critic_suffix_ids", "ar_suffix_ids"),
        norm_statistics={str(name): statistics.positive(name) for name in statistics.values},
        labels=dict(reader.mapping("api_summaries").values),
        parent_datasets=reader.texts("parent_datasets"),
        created_at=str(values.get("created_at") or ""),
        created_by=reader.text("created_by") or "",
        extra={key: value for key, value in values.items() if key not in _READ_KEYS},
    )


def _norm(extraction: FieldReader) -> str:
    norm = extraction.text("norm") or "none"
    if norm != "none":
        raise SidecarError(
            "extraction.norm",
            where=extraction.where,
            expected="none: activations are stored raw",
            found=norm,
        )
    return norm


def write_dataset_sidecar(sidecar: DatasetSidecar, parquet: Path) -> Path:
    """Writes the sidecar beside a Parquet file, with the reference's keys."""
    extraction: dict[str, Any] = {
        "base_model": sidecar.base_model,
        "d_model": sidecar.d_model,
        "layer_index": sidecar.layer,
        "norm": sidecar.norm,
        "corpus": sidecar.corpus,
        "corpus_slice": dict(sidecar.corpus_slice),
        "positions_per_doc": sidecar.positions_per_doc,
        "norm_statistics": {key: float(value) for key, value in sidecar.norm_statistics.items()},
    }
    values: dict[str, Any] = {
        "kind": "nla_dataset",
        "schema_version": 1,
        "dataset_id": sidecar.dataset_id,
        "stage": sidecar.stage,
        "row_count": sidecar.row_count,
        "extraction": extraction,
        "keep_debug_metadata": True,
    }
    if sidecar.marker is not None or sidecar.ar_suffix_ids is not None:
        values["tokens"] = token_values(sidecar.marker, sidecar.ar_suffix_ids)
    templates = {"actor": sidecar.av_template, "critic": sidecar.ar_template}
    values["prompt_templates"] = {
        key: value for key, value in templates.items() if value is not None
    }
    if sidecar.labels:
        values["api_summaries"] = dict(sidecar.labels)
    values |= {
        "parent_datasets": list(sidecar.parent_datasets),
        "created_at": sidecar.created_at,
        "created_by": sidecar.created_by,
        "git_commit": "",
    }
    return write_yaml({**values, **sidecar.extra}, sidecar_path(parquet))


def check_same_activations(first: ModelSidecar, *others: ModelSidecar | DatasetSidecar) -> None:
    """Checks that checkpoints and datasets are about the same activations; a layer that is not
    recorded fits any.

    Raises: SidecarError if widths or layers differ.
    """
    for name in ("d_model", "layer"):
        for other in others:
            wanted, found = getattr(first, name), getattr(other, name)
            if None not in (wanted, found) and wanted != found:
                raise SidecarError(
                    f"AV, AR and dataset are of different activations: {name}",
                    expected=wanted,
                    found=found,
                    remedy="Use halves and datasets of one target and one layer",
                )
