"""Rows to measure from any file of activations, with or without their texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gloss.contract import DatasetSidecar, check_same_activations
from gloss.errors import ActivationError
from gloss.store.activations import PROVENANCE, read_activations, row_positions
from gloss.store.sources import open_source
from gloss.train.inputs import TrainingRows, texts_of

if TYPE_CHECKING:
    from gloss.nla import NLA

READ_AT_ONCE = 4096


def read_any_rows(path: Path, nla: NLA) -> TrainingRows:
    """A Parquet file or folder of shards, or an array [n, d_model] in .npy or .safetensors.

    Where documents or texts are not known their columns are empty: all rows then count as one
    document, so that no interval is given.
    Raises: DatasetError; ActivationError for fewer than two rows or vectors that are not finite;
    SidecarError for another width or layer than the NLA's."""
    source = open_source(path)
    sidecar = DatasetSidecar(
        dataset_id=path.name,
        stage="heldout",
        row_count=source.num_rows,
        d_model=source.d_model,
        layer=nla.layer if source.layer is None else source.layer,
        norm_statistics=dict(nla.recorded.norm_statistics),
    )
    check_same_activations(nla.sidecar, sidecar)
    if source.num_rows < 2:
        what, expected = "too few activations to measure anything", "2 or more"
        raise ActivationError(what, where=path, expected=expected, found=source.num_rows)
    vectors = torch.cat([chunk.vectors for chunk in source.chunks(READ_AT_ONCE)])
    bad = ~(vectors.isfinite().all(dim=1) & vectors.any(dim=1))
    if bool(bad.any()):
        found = f"row {int(bad.nonzero()[0])}, one of {int(bad.sum())}"
        expected = "finite numbers, not all 0"
        raise ActivationError(
            "activations without a direction", where=path, expected=expected, found=found
        )
    if path.suffix in (".npy", ".safetensors"):
        blank = [""] * len(vectors)
        return TrainingRows(
            path, vectors.numpy(), [], blank, blank, [None] * len(vectors), blank, sidecar
        )
    table = read_activations(path, columns=(*PROVENANCE, "position", "token"))
    return TrainingRows(
        path=path,
        vectors=vectors.numpy(),
        texts=[],
        doc_ids=texts_of(table, "doc_id"),
        contexts=texts_of(table, "detokenized_text_truncated"),
        positions=row_positions(table),
        tokens=texts_of(table, "token"),
        sidecar=sidecar,
    )
