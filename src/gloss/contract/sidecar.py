"""A model's sidecar, ``nla_meta.yaml``: read in every dialect, written in the released one, checked
live.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gloss.contract.marker import InjectionMarker, find_marker
from gloss.contract.sidecar_fields import FieldReader, check_templates, read_yaml, write_yaml
from gloss.contract.templates import ar_prompt_ids, prompt_ids, render_chat_ids
from gloss.errors import SidecarError

SIDECAR_NAME = "nla_meta.yaml"
TRUST_KEY = "gloss"
"""Key of a sidecar under which Gloss writes what its own training measured."""
VALUE_HEAD_NAME = "value_head.safetensors"
SCHEMA_VERSION = 2
Dialect = Literal["released", "internal"]
_DIALECT_NAMES: dict[Dialect, dict[str, str]] = {
    "released": {"av": "av", "ar": "ar"},
    "internal": {"av": "actor", "ar": "critic"},
}
_ROLES = {"av": "av", "actor": "av", "ar": "ar", "critic": "ar"}
_READ_KEYS = {
    "kind",
    "schema_version",
    "role",
    "stage",
    "base_checkpoint",
    "d_model",
    "extraction",
    "tokens",
    "prompt_templates",
    "trained_on",
    "parent_checkpoints",
    "created_at",
    "created_by",
    "critic",
    "ar",
    "training",
    "extraction_layer_index",
}


@dataclass(frozen=True, kw_only=True)
class ModelSidecar:
    """Everything NLA-specific about an AV or AR checkpoint.

    ``layer`` is K, the block whose output is explained. ``injection_scale`` None means that
    activations go in raw.
    ``extra`` holds keys that Gloss does not know; they are written back.
    """

    role: Literal["av", "ar"]
    d_model: int
    layer: int | None
    injection_scale: float | None
    mse_scale: float
    marker: InjectionMarker | None
    ar_suffix_ids: tuple[int, ...] | None
    av_template: str | None
    ar_template: str | None
    stage: str = ""
    base_checkpoint: str = ""
    trained_on: tuple[str, ...] = ()
    parent_checkpoints: tuple[str, ...] = ()
    created_at: str = ""
    created_by: str = ""
    schema_version: int = SCHEMA_VERSION
    training: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


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
    file = path / SIDECAR_NAME if path.is_dir() else path
    values = read_yaml(file)
    reader = FieldReader(values, file)
    reader.expect("kind", "nla_model")
    role = _role(reader)
    version = reader.integer("schema_version", default=SCHEMA_VERSION)
    if version not in (1, 2):
        raise SidecarError("unknown schema_version", where=file, expected="1 or 2", found=version)
    d_model = reader.integer("d_model", minimum=1)
    tokens, templates = reader.mapping("tokens"), reader.mapping("prompt_templates")
    sidecar = ModelSidecar(
        role=role,
        d_model=d_model,
        layer=_layer(reader),
        injection_scale=_injection_scale(reader, role, d_model),
        mse_scale=_mse_scale(reader, d_model),
        marker=_marker(tokens, required=role == "av"),
        ar_suffix_ids=tokens.integers("critic_suffix_ids", "ar_suffix_ids"),
        av_template=templates.text("av", "actor", required=role == "av"),
        ar_template=templates.text("ar", "critic", required=role == "ar"),
        stage=reader.text("stage") or "",
        base_checkpoint=reader.text("base_checkpoint") or "",
        trained_on=reader.texts("trained_on"),
        parent_checkpoints=reader.texts("parent_checkpoints"),
        created_at=str(values.get("created_at") or ""),
        created_by=reader.text("created_by") or "",
        schema_version=version,
        training=dict(reader.mapping("training").values),
        extra={key: value for key, value in values.items() if key not in _READ_KEYS},
    )
    check_templates(file, av=sidecar.av_template, ar=sidecar.ar_template)
    return sidecar


def write_model_sidecar(
    sidecar: ModelSidecar, folder: Path, *, dialect: Dialect = "released"
) -> Path:
    """Writes a sidecar, in the released dialect, which the other NLA tools read.

    ``internal`` is the dialect of the reference's training code, which goes on from such
    checkpoints."""
    names = _DIALECT_NAMES[dialect]
    templates = {names["av"]: sidecar.av_template, names["ar"]: sidecar.ar_template}
    values: dict[str, Any] = {
        "kind": "nla_model",
        "schema_version": SCHEMA_VERSION,
        "role": names[sidecar.role],
        "stage": sidecar.stage,
        "base_checkpoint": sidecar.base_checkpoint,
        "d_model": sidecar.d_model,
        "extraction": {
            "injection_scale": _written_scale(sidecar),
            "mse_scale": float(sidecar.mse_scale),
        },
        "tokens": token_values(sidecar.marker, sidecar.ar_suffix_ids),
        "prompt_templates": {key: value for key, value in templates.items() if value is not None},
        "trained_on": list(sidecar.trained_on),
        "parent_checkpoints": list(sidecar.parent_checkpoints),
        "created_at": sidecar.created_at or datetime.now(UTC).isoformat(),
        "created_by": sidecar.created_by,
    }
    if sidecar.role == "ar" and sidecar.layer is not None:
        values["critic"] = {"extraction_layer_index": sidecar.layer}
    values["training"] = dict(sidecar.training)
    if sidecar.layer is not None and (dialect == "released" or sidecar.role == "av"):
        values["extraction_layer_index"] = sidecar.layer
    return write_yaml({**values, **sidecar.extra}, folder / SIDECAR_NAME)


def token_values(
    marker: InjectionMarker | None, ar_suffix_ids: tuple[int, ...] | None
) -> dict[str, Any]:
    """The block ``tokens`` of a sidecar."""
    values: dict[str, Any] = {}
    if marker is not None:
        values = {
            "injection_char": marker.char,
            "injection_token_id": marker.token_id,
            "injection_left_neighbor_id": marker.left_neighbor_id,
            "injection_right_neighbor_id": marker.right_neighbor_id,
        }
    return {**values, "critic_suffix_ids": None if ar_suffix_ids is None else list(ar_suffix_ids)}


def verify_model_sidecar(
    sidecar: ModelSidecar, *, tokenizer: Any, d_model: int, num_blocks: int | None = None
) -> None:
    """Checks a sidecar against the live tokenizer and config, before any work.

    Raises: SidecarError for a wrong width, depth or suffix, or an AR tokenizer that adds no BOS
    though chats begin with one; MarkerError if the prompt does not hold the marker so."""
    if sidecar.d_model != d_model:
        raise SidecarError(
            "d_model does not fit the weights", expected=d_model, found=sidecar.d_model
        )
    layer, role = sidecar.layer, sidecar.role
    if role == "ar" and layer is not None and num_blocks is not None and num_blocks != layer + 1:
        raise SidecarError(
            "the AR's depth does not fit its layer",
            expected=f"{layer + 1} blocks for layer {layer}",
            found=num_blocks,
        )
    if role == "av" and layer is not None and num_blocks is not None and layer >= num_blocks:
        raise SidecarError(
            "the layer is beyond the model", expected=f"below {num_blocks}", found=layer
        )
    if role == "av" and sidecar.marker is not None and sidecar.av_template is not None:
        find_marker(prompt_ids(tokenizer, sidecar.av_template, sidecar.marker.char), sidecar.marker)
    if role == "ar" and sidecar.ar_template is not None and sidecar.ar_suffix_ids:
        _check_suffix(tokenizer, sidecar.ar_template, sidecar.ar_suffix_ids)
    if role == "ar" and sidecar.ar_template is not None:
        _check_bos(tokenizer, sidecar.ar_template)


def _check_bos(tokenizer: Any, template: str) -> None:
    """Only a BOS of its own says something: where it is the end-of-text token too, chats may begin
    with it and texts not.
    """
    bos = tokenizer.bos_token_id
    if (
        bos is None
        or bos == tokenizer.eos_token_id
        or not getattr(tokenizer, "chat_template", None)
    ):
        return
    chat = render_chat_ids(tokenizer, [{"role": "user", "content": "a probe text"}])
    prompt = ar_prompt_ids(tokenizer, template, "a probe text")
    if chat[:1] == [bos] and prompt[:1] != [bos]:
        raise SidecarError(
            "the AR prompt does not begin with BOS, as chats do",
            expected=[bos],
            found=prompt[:1],
            remedy=(
                "Use the tokenizer saved beside the checkpoint; its post-processor adds BOS to"
                " texts"
            ),
        )


def _check_suffix(tokenizer: Any, template: str, recorded: tuple[int, ...]) -> None:
    """The probe ends with a letter: punctuation may merge with the suffix, which says nothing about
    the tokenizer.
    """
    prompt = ar_prompt_ids(tokenizer, template, "a probe text")
    found = tuple(prompt[-len(recorded) :])
    if found != recorded:
        raise SidecarError(
            "the AR prompt does not end as recorded in tokens.critic_suffix_ids",
            expected=list(recorded),
            found=list(found),
            remedy="Use the tokenizer and template saved beside the checkpoint",
        )


def _role(reader: FieldReader) -> Literal["av", "ar"]:
    """The documented minimal AV sidecar has no role; only an AR has a block named critic or ar."""
    has_ar_block = any(reader.mapping(name).values for name in ("critic", "ar"))
    role = reader.text("role")
    if role is None and not has_ar_block:
        return "av"
    if role not in _ROLES:
        raise SidecarError(
            "role",
            where=reader.where,
            expected="av or ar",
            found="nothing" if role is None else repr(role),
        )
    if _ROLES[role] == "ar":
        return "ar"
    if has_ar_block:
        raise SidecarError(
            "the role contradicts the rest",
            where=reader.where,
            expected="role ar, as it has the AR's block",
            found=role,
        )
    return "av"


def _layer(reader: FieldReader) -> int | None:
    numbers = {
        reader.integer("extraction_layer_index", default=None),
        *(
            block.integer(name, default=None)
            for block in (reader.mapping("critic"), reader.mapping("ar"))
            for name in ("extraction_layer_index", "num_hidden_layers")
        ),
    }
    found = sorted(number for number in numbers if number is not None)
    if len(found) > 1:
        raise SidecarError(
            "contradicting layers", where=reader.where, expected="one extraction layer", found=found
        )
    return found[0] if found else None


def _injection_scale(reader: FieldReader, role: str, d_model: int) -> float | None:
    extraction = reader.mapping("extraction")
    raw = extraction.values.get("injection_scale")
    if isinstance(raw, str) and raw.strip() in ("raw", "none"):
        return None
    if raw == "sqrt_d_model":
        return math.sqrt(d_model)
    if raw is None:
        if role == "av":
            raise SidecarError(
                "no injection_scale",
                where=reader.where,
                expected="a positive number, or 'raw'",
                found="nothing",
                remedy="A missing scale cannot be guessed: take it from the training run",
            )
        return None
    return extraction.positive("injection_scale")


def _mse_scale(reader: FieldReader, d_model: int) -> float:
    """√d_model where nothing is said; an explicit null says "not normalised", which a direction MSE
    is not.
    """
    extraction = reader.mapping("extraction")
    if "mse_scale" not in extraction.values or extraction.values["mse_scale"] == "sqrt_d_model":
        return math.sqrt(d_model)
    return extraction.positive("mse_scale")


def _written_scale(sidecar: ModelSidecar) -> float | str | None:
    if sidecar.injection_scale is None:
        return "raw" if sidecar.role == "av" else None
    return float(sidecar.injection_scale)


def _marker(tokens: FieldReader, *, required: bool) -> InjectionMarker | None:
    names = (
        "injection_char",
        "injection_token_id",
        "injection_left_neighbor_id",
        "injection_right_neighbor_id",
    )
    if not required and not any(tokens.values.get(name) is not None for name in names):
        return None
    char = tokens.text("injection_char", required=True)
    assert char is not None
    if len(char) != 1:
        raise SidecarError(
            "tokens.injection_char", where=tokens.where, expected="one character", found=repr(char)
        )
    ids = [tokens.integer(name, minimum=0) for name in names[1:]]
    return InjectionMarker(char, *ids)
