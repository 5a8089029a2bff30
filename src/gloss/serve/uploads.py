"""Activations in an uploaded file: .npy, .safetensors or Parquet, known by their first bytes;
nothing in it is executed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloss.errors import ActivationError, DatasetError
from gloss.serve import limits
from gloss.store.sources import open_source

_SIGNS = ((b"\x93NUMPY", ".npy"), (b"PAR1", ".parquet"))
_COLUMNS = ("doc_id", "position", "token", "context")


@dataclass(frozen=True)
class Upload:
    """Activations read from an uploaded file, with what it says of their rows."""

    vectors: list[list[float]]
    num_rows: int
    layer: int | None
    columns: dict[str, list[Any]]


def read_upload(data: bytes, d_model: int, *, max_rows: int = limits.MAX_DESCRIBE_BATCH) -> Upload:
    """The first ``max_rows`` activations of a file's bytes.

    Raises: DatasetError for another kind of file or a damaged one; ActivationError for vectors of
    another width."""
    suffix = next((suffix for sign, suffix in _SIGNS if data.startswith(sign)), None)
    if suffix is None and data[8:9] == b"{":
        suffix = ".safetensors"
    if suffix is None:
        expected = ".npy, .safetensors or .parquet"
        raise DatasetError("unknown kind of file", where="upload", expected=expected)
    with tempfile.TemporaryDirectory(prefix="gloss-upload-") as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(data)
        try:
            source = open_source(path)
            rows = next(source.chunks(max_rows), None)
        except DatasetError as error:
            raise DatasetError(
                error.what, where="upload", expected=error.expected, found=error.found
            ) from error
        if source.d_model != d_model:
            raise ActivationError(
                "wrong activation width", where="upload", expected=d_model, found=source.d_model
            )
    found = {} if rows is None else rows.columns
    return Upload(
        vectors=[] if rows is None else rows.vectors.tolist(),
        num_rows=source.num_rows,
        layer=source.layer,
        columns={name: list(found[name]) for name in _COLUMNS if name in found},
    )
