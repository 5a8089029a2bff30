"""What a training loop starts from: rows of a dataset, and a fresh AV or AR of the target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from gloss.contract import (
    DatasetSidecar,
    ModelSidecar,
    TargetRecord,
    TrustRecord,
    add_marker_token,
    read_dataset_sidecar,
    verify_model_sidecar,
)
from gloss.errors import DatasetError
from gloss.models import (
    ActivationReconstructor,
    ActivationVerbalizer,
    direction_variance,
    mean_direction,
)
from gloss.store.activations import read_activations, row_positions, vectors_as_array
from gloss.target_model import Target, identity_of, load_target
from gloss.train.config import JointConfig, SFTConfig

NOT_IN_RESULT = {"checkpoint_every", "tensorboard", "engine"}
"""Settings that may change between stop and resume; the kind of an engine must stay, see joint."""
_INHERITED = ("d_model", "layer", "marker", "ar_suffix_ids", "av_template", "ar_template")


@dataclass(frozen=True)
class TrainingRows:
    """Rows of a dataset: raw ``vectors`` [n, d_model], ``texts`` (none for RL), provenance."""

    path: Path
    vectors: np.ndarray[Any, np.dtype[np.float32]]
    texts: Sequence[str]
    doc_ids: Sequence[str]
    contexts: Sequence[str]
    positions: Sequence[int | None]
    tokens: Sequence[str]
    sidecar: DatasetSidecar

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def variance(self) -> float:
        """Variance of the activations' directions: what FVE is measured against."""
        return direction_variance(torch.from_numpy(self.vectors))

    def take(self, rows: Sequence[int]) -> TrainingRows:
        """The rows of these indices."""
        names = ("texts", "doc_ids", "contexts", "positions", "tokens")
        columns = {name: column for name in names if (column := getattr(self, name))}
        taken: dict[str, Any] = {
            name: [column[row] for row in rows] for name, column in columns.items()
        }
        return replace(self, vectors=self.vectors[list(rows)], **taken)


def read_training_rows(path: Path, *, text_column: str | None) -> TrainingRows:
    """Reads a dataset with the text to learn from. Raises: DatasetError."""
    table = read_activations(path)
    if text_column is not None and text_column not in table.column_names:
        raise DatasetError(
            f"no column {text_column!r}",
            where=path,
            expected=text_column,
            found=table.column_names,
            remedy="Build the dataset with: gloss data build",
        )
    return TrainingRows(
        path=path,
        vectors=vectors_as_array(table, where=path).copy(),
        texts=table[text_column].to_pylist() if text_column else [],
        doc_ids=texts_of(table, "doc_id"),
        contexts=texts_of(table, "detokenized_text_truncated"),
        positions=row_positions(table),
        tokens=texts_of(table, "token"),
        sidecar=read_dataset_sidecar(path),
    )


def texts_of(table: pa.Table, name: str) -> list[str]:
    """A column of texts, empty ones where there is none: rows of no known document are of one."""
    if name not in table.column_names:
        return [""] * len(table)
    return [text or "" for text in table[name].to_pylist()]


def new_av(
    target_name: str,
    rows: TrainingRows,
    injection_scale: float | None,
    attn_implementation: str | None = None,
) -> ActivationVerbalizer:
    """An untrained AV: a copy of the target with the dataset's template and marker.

    Raises: CheckpointError, SidecarError or MarkerError if the dataset is of another target."""
    target = load_target(target_name, attn_implementation=attn_implementation)
    scale = injection_scale
    if scale is None:
        scale = float(rows.sidecar.norm_statistics["p75"])
    sidecar = _sidecar("av", target_name, rows, target, injection_scale=scale)
    if (marker := sidecar.marker) is not None:
        if marker.token_id >= target.model.get_input_embeddings().num_embeddings:
            target.model.resize_token_embeddings(marker.token_id + 1)
        if marker.token_id >= len(target.tokenizer):
            add_marker_token(target.tokenizer, marker.char)
    verify_model_sidecar(
        sidecar, tokenizer=target.tokenizer, d_model=target.d_model, num_blocks=target.num_blocks
    )
    return ActivationVerbalizer(target.model, target.tokenizer, sidecar)


def new_ar(
    target_name: str, rows: TrainingRows, attn_implementation: str | None = None
) -> ActivationReconstructor:
    """An untrained AR: the target's first K+1 blocks and an identity head.

    Raises: CheckpointError, SidecarError, ArchitectureError if the dataset is of another target."""
    target = load_target(target_name, attn_implementation=attn_implementation)
    sidecar = _sidecar("ar", target_name, rows, target, injection_scale=None)
    verify_model_sidecar(sidecar, tokenizer=target.tokenizer, d_model=target.d_model)
    return ActivationReconstructor.from_target(
        target.model, rows.sidecar.layer, target.tokenizer, sidecar
    )


def trust_record(rows: TrainingRows, target: Target | None = None) -> TrustRecord:
    """What a reader needs to judge an activation: variance, mean direction, usual norms."""
    dataset = rows.sidecar
    mean = mean_direction(torch.from_numpy(rows.vectors)).tolist()
    extraction = (dataset.extra.get("gloss") or {}).get("extract") or {}
    return TrustRecord(
        direction_variance=rows.variance or None,
        mean_direction=tuple(round(value, 4) for value in mean),
        norm_statistics=dict(dataset.norm_statistics),
        min_position=extraction.get("min_position"),
        dataset=dataset.dataset_id,
        target=None
        if target is None
        else TargetRecord(**identity_of(target.model, target.tokenizer)),
    )


def _sidecar(
    role: Any,
    target_name: str,
    rows: TrainingRows,
    loaded: Target,
    *,
    injection_scale: float | None,
) -> ModelSidecar:
    dataset, target = rows.sidecar, Path(target_name)
    return ModelSidecar(
        role=role,
        injection_scale=injection_scale,
        mse_scale=dataset.d_model**0.5,
        stage="sft",
        base_checkpoint=str(target.resolve()) if target.is_dir() else target_name,
        trained_on=(dataset.dataset_id,),
        created_by=f"gloss {version('gloss-nla')}",
        trust=trust_record(rows, loaded),
        **{name: getattr(dataset, name) for name in _INHERITED},
    )


def run_settings(
    config: SFTConfig | JointConfig, rows: TrainingRows, sidecar: ModelSidecar
) -> dict[str, Any]:
    """What a resumed run must have in common: settings, dataset, the model's contract."""
    digest = hashlib.blake2b(rows.vectors.tobytes(), digest_size=8)
    digest.update("\0".join(rows.texts).encode("utf-8", "surrogatepass"))
    return {
        **config.model_dump(mode="json", exclude=NOT_IN_RESULT),
        "dataset": f"{rows.sidecar.dataset_id} ({digest.hexdigest()})",
        "marker": asdict(sidecar.marker) if sidecar.marker else None,
        "injection_scale": sidecar.injection_scale,
        "av_template": sidecar.av_template,
        "ar_template": sidecar.ar_template,
        "layer": sidecar.layer,
    }
