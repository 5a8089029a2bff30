"""A model's sidecar, ``nla_meta.yaml``: read in every dialect, written in the released one, with
what training measured for readers to judge by.
"""

from __future__ import annotations

import math
from dataclasses import field
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
SCHEMA_VERSION = 2
Role = Literal["av", "ar"]
Dialect = Literal["released", "internal"]
_AR_BLOCKS = ("critic", "ar")
_INTERNAL: dict[str, str] = {"av": "actor", "ar": "critic"}
_ROLES: dict[Any, Role] = {"av": "av", "actor": "av", "ar": "ar", "critic": "ar"}


class TrustRecord(BaseModel):
    """What a reader of a checkpoint needs to judge an activation or an explanation, as training
    measured it; the key ``gloss`` of the sidecar. Other keys there are kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    direction_variance: Positive | None = None
    """Variance of the training activations' directions: what FVE is measured against."""
    mean_direction: Annotated[tuple[Number, ...], wanted("a list of finite numbers")] | None = None
    """Their mean at norm √d [d_model]: what an FVE of 0 predicts."""
    norm_statistics: dict[str, Positive] = Field(default_factory=dict)
    """Mean and percentiles of their norms."""
    min_position: Count | None = None
    """The first position of a text that was trained on."""
    dataset: Text | None = None
    max_new_tokens: Width | None = None
    """How long explanations may be."""
    fve: Number | None = None
    heldout_errors: (
        Annotated[tuple[Annotated[Number, Field(ge=0)], ...], wanted("a list of direction MSEs")]
        | None
    ) = None
    """Direction MSE of held-out activations, for percentiles."""

    def recorded(self) -> dict[str, Any]:
        """What was recorded, as values of a file."""
        return self.model_dump(mode="json", exclude_unset=True, exclude_none=True)


@dataclass(frozen=True, kw_only=True)
class ModelSidecar:
    """Everything NLA-specific about an AV or AR checkpoint.

    ``layer`` is K, the block whose output is explained. ``injection_scale`` None means that
    activations go in raw. ``trust`` is empty for a checkpoint of another tool.
    ``extra`` holds keys that Gloss does not know; they are written back.
    """

    role: Role
    stage: Text = ""
    base_checkpoint: Text = ""
    d_model: Width
    injection_scale: Annotated[Positive | None, Key("extraction.injection_scale", null=True)]
    mse_scale: Annotated[Positive, Key("extraction.mse_scale")]
    marker: Annotated[
        InjectionMarker | None, Key("tokens", record=InjectionMarker, prefix="injection_")
    ]
    ar_suffix_ids: Annotated[
        TokenIds | None, Key("tokens.critic_suffix_ids", also="tokens.ar_suffix_ids", null=True)
    ]
    av_template: Annotated[Text | None, Key("prompt_templates.av", also="prompt_templates.actor")]
    ar_template: Annotated[Text | None, Key("prompt_templates.ar", also="prompt_templates.critic")]
    trained_on: Texts = ()
    parent_checkpoints: Texts = ()
    created_at: Date = ""
    created_by: Text = ""
    training: Values = field(default_factory=dict)
    layer: Annotated[Count | None, Key("extraction_layer_index")]
    trust: Annotated[TrustRecord, Key("gloss")] = field(default_factory=TrustRecord)
    schema_version: int = SCHEMA_VERSION
    extra: Values = field(default_factory=dict)


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a checkpoint folder or of a file stands; an ``@[a:b]`` row range is
    ignored.
    """
    if path.is_dir():
        return path / SIDECAR_NAME
    plain = path.with_name(path.name.split("@[")[0])
    if plain.is_dir() or not plain.suffix:
        return plain / SIDECAR_NAME
    return plain.with_name(f"{plain.name}.{SIDECAR_NAME}")


def read_model_sidecar(path: Path) -> ModelSidecar:
    """Reads the sidecar of a checkpoint folder, or a sidecar file, in any dialect.

    Raises: SidecarError that names the file and the key; TemplateError for a template that cannot
    be filled."""
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
    """Writes a sidecar, in the released dialect, which the other NLA tools read.

    ``internal`` is the dialect of the reference's training code, which goes on from such
    checkpoints."""
    values = file_values(sidecar, kind="nla_model", schema_version=SCHEMA_VERSION)
    training, layer = values.pop("training"), values.pop("extraction_layer_index", None)
    trust = values.pop("gloss").recorded()
    values["extraction"]["injection_scale"] = _written_scale(sidecar)
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


def _role(file: SidecarFile) -> Role:
    """The documented minimal AV sidecar has no role; only an AR has a block named critic or ar."""
    said, ar_blocks = file.get("role") or None, [file.block(name) for name in _AR_BLOCKS]
    if said is None and not any(ar_blocks):
        return "av"
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise file.wrong("role", "av or ar", said)
    if role == "av" and any(ar_blocks):
        raise SidecarError(
            "the role contradicts the rest",
            where=file.path,
            expected="role ar, as it has the AR's block",
            found=said,
        )
    return role


def _layer(file: SidecarFile) -> int | None:
    numbers = {
        file.checked("extraction_layer_index", Count | None),
        *(
            file.checked(f"{block}.{name}", Count | None)
            for block in _AR_BLOCKS
            for name in ("extraction_layer_index", "num_hidden_layers")
        ),
    }
    found = sorted(number for number in numbers if number is not None)
    if len(found) > 1:
        raise SidecarError(
            "contradicting layers", where=file.path, expected="one extraction layer", found=found
        )
    return found[0] if found else None


def _injection_scale(file: SidecarFile, role: Role, root: float) -> Any:
    scale = file.get("extraction.injection_scale")
    if scale == "sqrt_d_model":
        return root
    if isinstance(scale, str) and scale.strip() in ("raw", "none"):
        return None
    if scale is None and role == "av":
        raise SidecarError(
            "no injection_scale",
            where=file.path,
            expected="a positive number, or 'raw'",
            found="nothing",
            remedy="A missing scale cannot be guessed: take it from the training run",
        )
    return scale


def _mse_scale(file: SidecarFile, root: float) -> Any:
    """√d_model where nothing is said; an explicit null says "not normalised", which a direction MSE
    is not.
    """
    scale = file.block("extraction").get("mse_scale", root)
    return root if scale == "sqrt_d_model" else scale


def _written_scale(sidecar: ModelSidecar) -> float | str | None:
    if sidecar.injection_scale is None:
        return "raw" if sidecar.role == "av" else None
    return sidecar.injection_scale
