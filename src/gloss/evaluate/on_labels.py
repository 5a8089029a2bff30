"""How well an AR reads the labels of held-out activations: what a warm start could reach."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gloss.models import ActivationReconstructor, direction_mse
from gloss.train.inputs import TrainingRows, read_training_rows


def errors_on_labels(
    ar: ActivationReconstructor, labelled: Path | None, rows: TrainingRows
) -> tuple[Tensor, list[int]]:
    """Direction MSE of the AR on the labels of the measured rows, and which of these have one."""
    if labelled is None:
        return torch.zeros(0), []
    given = read_training_rows(labelled, text_column="prompt")
    text_of = dict(zip(_keys(given), given.texts, strict=True))
    texts = {row: text_of[key] for row, key in enumerate(_keys(rows)) if key in text_of}
    if not texts:
        return torch.zeros(0), []
    which = list(texts)
    rebuilt = ar.reconstruct_encoded(ar.encode_prompts(list(texts.values())))
    return direction_mse(rebuilt, torch.from_numpy(rows.vectors[which])), which


def _keys(rows: TrainingRows) -> list[tuple[str, bytes]]:
    """What tells an activation in two files: its document and its numbers."""
    vectors = (vector.tobytes() for vector in rows.vectors)
    return list(zip(rows.doc_ids, vectors, strict=True))
