"""``inspect``: what a checkpoint is, from its sidecar, its config and the headers of its weights;
no weight is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gloss.contract import (
    SIDECAR_NAME,
    TRUST_KEY,
    VALUE_HEAD_NAME,
    ModelSidecar,
    read_model_sidecar,
)
from gloss.contract.sidecar_fields import read_yaml
from gloss.errors import CheckpointError
from gloss.release.parts import parts_of
from gloss.release.tensors import file_headers, tensor_headers
from gloss.target_model import ModelPlace, commit_of
from gloss.target_model.folder_files import json_object


@dataclass(frozen=True)
class CheckpointSummary:
    """One half of an NLA. ``recorded`` is what training noted for readers to judge by; ``files``
    are sizes in bytes.
    """

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
    """What stands at a folder or hub id: one summary per half.

    Raises: CheckpointError if there is no checkpoint, a file cannot be read, or the hub cannot be
    reached; SidecarError."""
    return [_summary(place) for place in parts_of(name, revision=revision).values()]


def _summary(place: ModelPlace) -> CheckpointSummary:
    sidecar_file, config_file = place.file(SIDECAR_NAME), place.file("config.json")
    if sidecar_file is None:
        raise CheckpointError("no sidecar", where=place, expected=SIDECAR_NAME)
    sidecar, values = read_model_sidecar(sidecar_file), read_yaml(sidecar_file)
    config = text_config(json_object(config_file)) if config_file is not None else {}
    files = place.files()
    headers = tensor_headers(place, files)
    if VALUE_HEAD_NAME in files:
        headers |= {
            f"head.{name}": header for name, header in file_headers(place, VALUE_HEAD_NAME).items()
        }
    dtypes: Counter[str] = Counter()
    for header in headers.values():
        dtypes[header.dtype] += header.count
    return CheckpointSummary(
        place=str(place),
        commit=commit_of(sidecar_file.parent),
        role=sidecar.role,
        base_checkpoint=sidecar.base_checkpoint,
        stage=sidecar.stage,
        layer=sidecar.layer,
        d_model=sidecar.d_model,
        num_blocks=config.get("num_hidden_layers"),
        family=config.get("model_type"),
        injection_scale=sidecar.injection_scale,
        mse_scale=sidecar.mse_scale,
        marker=asdict(sidecar.marker) if sidecar.marker else None,
        ar_suffix_ids=sidecar.ar_suffix_ids,
        av_template=sidecar.av_template,
        ar_template=sidecar.ar_template,
        dialect=dialect_of(values),
        schema_version=values.get("schema_version"),
        created_by=sidecar.created_by,
        dtypes=dict(dtypes),
        num_parameters=sum(dtypes.values()),
        recorded=recorded_by_training(sidecar),
        files=files,
    )


def recorded_by_training(sidecar: ModelSidecar) -> dict[str, Any]:
    """What Gloss's training noted for readers to judge by; empty for a checkpoint of another tool,
    or another tool's key.
    """
    recorded = sidecar.extra.get(TRUST_KEY)
    return dict(recorded) if isinstance(recorded, dict) else {}


def dialect_of(values: Mapping[str, Any]) -> str:
    """``released`` (av/ar), ``internal`` (actor/critic, as training in the reference writes it) or
    ``minimal``.
    """
    templates = values.get("prompt_templates") or {}
    if values.get("role") in ("actor", "critic") or not {"av", "ar"} & set(templates):
        return "internal"
    minimal = "stage" not in values and "schema_version" not in values
    return "minimal" if minimal else "released"


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The text model's part of a config.json: a multimodal wrapper keeps it one level down."""
    inner = config.get("text_config")
    return dict(inner) if isinstance(inner, dict) else dict(config)
