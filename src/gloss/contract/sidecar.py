"""Sidecars, ``nla_meta.yaml``, of models (in every dialect) and of datasets."""

from __future__ import annotations

import math
from dataclasses import field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from gloss.contract.marker import InjectionMarker
from gloss.contract.sidecar_fields import (
    Count,
    Date,
    Key,
    Number,
    Positive,
    SidecarFile,
    Text,
    Texts,
    TokenIds,
    Values,
    Width,
    file_values,
    wanted,
)
from gloss.contract.sidecar_yaml import write_yaml
from gloss.errors import SidecarError

SIDECAR_NAME = "nla_meta.yaml"
VALUE_HEAD_NAME = "value_head.safetensors"
SCHEMA_VERSION, _DATASET_VERSION = 2, 1
Role = Literal["av", "ar"]
Dialect = Literal["released", "internal"]
_AR_BLOCKS = ("critic", "ar")
_INTERNAL: dict[str, str] = {"av": "actor", "ar": "critic"}
_API_SUMMARIES = {"model": "", "max_tokens": 0, "temperature": 0.0, "instruction_prompt": ""}
"""What the reference reads of labels, and what stands there where no model was asked for them."""
_OWN_FIELDS = ("norm_statistics", "labels")
_ROLES: dict[Any, Role] = {"av": "av", "actor": "av", "ar": "ar", "critic": "ar"}

_Errors = Annotated[
    tuple[Annotated[Number, Field(ge=0, le=4.001)], ...], wanted("a list of direction MSEs, 0 to 4")
]
_Variance = Annotated[
    Number, Field(gt=0, le=1.001), wanted("a variance of directions, above 0 and at most 1")
]
_FVE = Annotated[Number, Field(le=1), wanted("a finite number of at most 1")]
_Marker = Annotated[
    InjectionMarker | None, Key("tokens", record=InjectionMarker, prefix="injection_")
]
_SuffixIds = Annotated[
    TokenIds | None, Key("tokens.critic_suffix_ids", also="tokens.ar_suffix_ids", null=True)
]


class TargetRecord(BaseModel):
    """Which target was trained on: values of some of its weights, their type, its tokenizer."""

    model_config = ConfigDict(frozen=True)

    weights: Annotated[
        dict[str, tuple[Number, ...]], wanted("a mapping from names to lists of finite numbers")
    ]
    dtype: Text
    tokenizer: Text


class TrustRecord(BaseModel):
    """What training measured for readers to judge by: the key ``gloss``. Others there are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    direction_variance: _Variance | None = None
    """Variance of the training activations' directions: what FVE is measured against."""
    mean_direction: Annotated[tuple[Number, ...], wanted("a list of finite numbers")] | None = None
    """Their mean at norm √d [d_model]: what an FVE of 0 predicts."""
    norm_statistics: dict[str, Positive] = Field(default_factory=dict)
    """Mean and percentiles of their norms."""
    min_position: Count | None = None
    """The first position of a text that was trained on."""
    dataset: Text | None = None
    target: TargetRecord | None = None
    """What tells the target from others."""
    max_new_tokens: Width | None = None
    """How long explanations may be."""
    fve: _FVE | None = None
    heldout_errors: _Errors | None = None
    """Direction MSE of held-out activations, for percentiles."""

    def recorded(self) -> dict[str, Any]:
        """What was recorded, as values of a file."""
        return self.model_dump(mode="json", exclude_unset=True, exclude_none=True)


@dataclass(frozen=True, kw_only=True)
class ModelSidecar:
    """Everything NLA-specific about an AV or AR checkpoint.

    ``layer`` is K, the block whose output is explained. ``injection_scale`` None means that
    activations go in raw. ``trust`` is empty for a checkpoint of another tool. ``extra`` holds keys
    that Gloss does not know; they are written back."""

    role: Role
    stage: Text = ""
    base_checkpoint: Text = ""
    d_model: Width
    injection_scale: Annotated[Positive | None, Key("extraction.injection_scale", null=True)]
    mse_scale: Annotated[Positive, Key("extraction.mse_scale")]
    marker: _Marker
    ar_suffix_ids: _SuffixIds
    av_template: Annotated[Text | None, Key("prompt_templates.av", "prompt_templates.actor")]
    ar_template: Annotated[Text | None, Key("prompt_templates.ar", "prompt_templates.critic")]
    trained_on: Texts = ()
    parent_checkpoints: Texts = ()
    created_at: Date = ""
    created_by: Text = ""
    training: Values = field(default_factory=dict)
    layer: Annotated[Count | None, Key("extraction_layer_index")]
    trust: Annotated[TrustRecord, Key("gloss")] = field(default_factory=TrustRecord)
    schema_version: int = SCHEMA_VERSION
    extra: Values = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DatasetSidecar:
    """Everything about a Parquet file of raw activations; ``norm`` is always ``none``."""

    dataset_id: Text
    stage: Text = ""
    row_count: Count
    base_model: Annotated[Text, Key("extraction.base_model")] = ""
    d_model: Annotated[Width, Key("extraction.d_model")]
    layer: Annotated[Count, Key("extraction.layer_index")]
    norm: Annotated[
        Literal["none"], wanted("none: activations are stored raw"), Key("extraction.norm")
    ] = "none"
    corpus: Annotated[Text, Key("extraction.corpus")] = ""
    corpus_slice: Annotated[Values, Key("extraction.corpus_slice")] = field(default_factory=dict)
    positions_per_doc: Annotated[Count | None, Key("extraction.positions_per_doc", null=True)] = (
        None
    )
    norm_statistics: Annotated[
        dict[str, Positive], Key("gloss.norm_statistics", also="extraction.norm_statistics")
    ] = field(default_factory=dict)
    marker: _Marker = None
    ar_suffix_ids: _SuffixIds = None
    av_template: Annotated[Text | None, Key("prompt_templates.actor", "prompt_templates.av")] = None
    ar_template: Annotated[Text | None, Key("prompt_templates.critic", "prompt_templates.ar")] = (
        None
    )
    labels: Annotated[Values, Key("api_summaries")] = field(default_factory=dict)
    parent_datasets: Texts = ()
    created_at: Date = ""
    created_by: Text = ""
    extra: Values = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a folder or a file stands; an ``@[a:b]`` row range is ignored."""
    if path.is_dir():
        return path / SIDECAR_NAME
    plain = path.with_name(path.name.split("@[")[0])
    if plain.is_dir() or not plain.suffix:
        return plain / SIDECAR_NAME
    return plain.with_name(f"{plain.name}.{SIDECAR_NAME}")


def read_model_sidecar(path: Path) -> ModelSidecar:
    """The sidecar of a checkpoint folder, or a sidecar file; SidecarError names file and key."""
    path = path / SIDECAR_NAME if path.is_dir() else path
    file = SidecarFile(path, kind="nla_model", versions=(1, SCHEMA_VERSION))
    role, root = _role(file), math.sqrt(file.checked("d_model", Width))
    sidecar = file.read(
        ModelSidecar,
        others=set(_AR_BLOCKS),
        role=role,
        schema_version=file.version,
        layer=_layer(file),
        injection_scale=_injection_scale(file, role, root),
        mse_scale=_mse_scale(file, root),
    )
    needed = {"av_template": "prompt_templates.av", "marker": "tokens.injection_char"}
    for name, key in needed.items() if role == "av" else [("ar_template", "prompt_templates.ar")]:
        if getattr(sidecar, name) is None:
            raise file.wrong(key, "a text", None)
    mean = sidecar.trust.mean_direction
    if mean is not None and len(mean) != sidecar.d_model:
        raise file.wrong("gloss.mean_direction", f"{sidecar.d_model} numbers", len(mean))
    return sidecar


def write_model_sidecar(
    sidecar: ModelSidecar, folder: Path, *, dialect: Dialect = "released"
) -> Path:
    """Writes a sidecar; ``internal`` is the dialect that the reference's training goes on from."""
    values = file_values(sidecar, kind="nla_model", schema_version=SCHEMA_VERSION)
    training, layer = values.pop("training"), values.pop("extraction_layer_index", None)
    trust = values.pop("gloss").recorded()
    if sidecar.injection_scale is None and sidecar.role == "av":
        values["extraction"]["injection_scale"] = "raw"
    values["created_at"] = sidecar.created_at or datetime.now(UTC).isoformat()
    if dialect == "internal":
        templates = values["prompt_templates"]
        values["role"] = _INTERNAL[sidecar.role]
        values["prompt_templates"] = {_INTERNAL[name]: text for name, text in templates.items()}
    if sidecar.role == "ar" and layer is not None:
        values["critic"] = {"extraction_layer_index": layer}
    values["training"] = training
    if layer is not None and (dialect == "released" or sidecar.role == "av"):
        values["extraction_layer_index"] = layer
    values |= {"gloss": trust} if trust else {}
    return write_yaml({**values, **sidecar.extra}, folder / SIDECAR_NAME)


def read_dataset_sidecar(parquet: Path) -> DatasetSidecar:
    """The sidecar beside a Parquet file or in a folder; SidecarError names file and key."""
    file = SidecarFile(sidecar_path(parquet), kind="nla_dataset", versions=(_DATASET_VERSION,))
    file.checked("gloss.extract.min_position", Count | None)  # goes into the trust record
    sidecar = file.read(DatasetSidecar, others={"keep_debug_metadata", "git_commit"})
    own = {name: value for name, value in file.block("gloss").items() if name not in _OWN_FIELDS}
    if (labels := file.checked("gloss.labels", Values | None)) is not None:
        sidecar = replace(sidecar, labels=labels)
    return replace(sidecar, extra={**sidecar.extra, "gloss": own}) if own else sidecar


def write_dataset_sidecar(sidecar: DatasetSidecar, parquet: Path) -> Path:
    """Writes the sidecar beside a Parquet file: the reference's keys as its data stages read them,
    and what is Gloss's own under ``gloss``."""
    values = file_values(sidecar, kind="nla_dataset", schema_version=_DATASET_VERSION)
    own = {name: value for name, value in values.pop("gloss").items() if value}
    if sidecar.marker is None and sidecar.ar_suffix_ids is None:
        del values["tokens"]
    if not sidecar.labels:
        del values["api_summaries"]
    else:
        values["api_summaries"] = {
            name: sidecar.labels.get(name, unsaid) for name, unsaid in _API_SUMMARIES.items()
        }
        if values["api_summaries"] != dict(sidecar.labels):
            own["labels"] = dict(sidecar.labels)
    values |= {"keep_debug_metadata": True, "git_commit": "", **sidecar.extra}
    own |= sidecar.extra.get("gloss", {})
    return write_yaml(values | ({"gloss": own} if own else {}), sidecar_path(parquet))


def check_same_activations(first: ModelSidecar, *others: ModelSidecar | DatasetSidecar) -> None:
    """Raises SidecarError if widths or layers differ; a layer that is not recorded fits any."""
    for name in ("d_model", "layer"):
        for other in others:
            expected, found = getattr(first, name), getattr(other, name)
            if None not in (expected, found) and expected != found:
                what = f"AV, AR and dataset are of different activations: {name}"
                remedy = "Use halves and datasets of one target and one layer"
                raise SidecarError(what, expected=expected, found=found, remedy=remedy)


def _role(file: SidecarFile) -> Role:
    """The documented minimal AV sidecar has no role; only an AR has a block named critic or ar."""
    said, ar_blocks = file.get("role") or None, [file.block(name) for name in _AR_BLOCKS]
    if said is None and not any(ar_blocks):
        return "av"
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise file.wrong("role", "av or ar", said)
    if role == "av" and any(ar_blocks):
        what, expected = "the role contradicts the rest", "role ar, as it has the AR's block"
        raise SidecarError(what, where=file.path, expected=expected, found=said)
    return role


def _layer(file: SidecarFile) -> int | None:
    inside = [
        f"{block}.{name}"
        for block in _AR_BLOCKS
        for name in ("extraction_layer_index", "num_hidden_layers")
    ]
    numbers = {file.checked(key, Count | None) for key in ("extraction_layer_index", *inside)}
    found = sorted(numbers - {None})
    if len(found) > 1:
        what, expected = "contradicting layers", "one extraction layer"
        raise SidecarError(what, where=file.path, expected=expected, found=found)
    return found[0] if found else None


def _injection_scale(file: SidecarFile, role: Role, root: float) -> Any:
    scale = file.get("extraction.injection_scale")
    if scale == "sqrt_d_model":
        return root
    if isinstance(scale, str) and scale.strip() in ("raw", "none"):
        return None
    if scale is None and role == "av":
        remedy = "A missing scale cannot be guessed: take it from the training run"
        raise file.wrong("no injection_scale", "a positive number, or 'raw'", None, remedy=remedy)
    return scale


def _mse_scale(file: SidecarFile, root: float) -> Any:
    """√d_model where nothing is said; null says "not normalised": no direction MSE is."""
    scale = file.block("extraction").get("mse_scale", root)
    return root if scale == "sqrt_d_model" else scale
