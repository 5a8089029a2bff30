"""Rows of a model's embedding table, read alone: the rest of its weights is neither fetched nor
read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from gloss.errors import CheckpointError
from gloss.target_model.architectures import Architecture, architecture_of
from gloss.target_model.folder_files import UNREADABLE, first_line, json_object
from gloss.target_model.hub import ModelPlace
from gloss.target_model.loading import read_config, text_config

_FILE = "model.safetensors"
_INDEX = f"{_FILE}.index.json"


def read_embedding_rows(
    place: ModelPlace,
    ids: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> Tensor:
    """What the model's embedding module gives for token ids, computed in ``dtype``; [len(ids),
    d_model].

    ``dtype`` None is that of the file. Only the rows are read, and of a model on the hub only the
    file that holds them is fetched.
    Raises: CheckpointError if the folder has no such table, or the table no such row;
    ArchitectureError."""
    folder = place.folder(with_weights=False, with_code=trust_remote_code)
    config = read_config(folder, trust_remote_code)
    architecture = architecture_of(config.model_type, config=config)
    if architecture.text_keys:
        config = text_config(config)
    vocabulary, d_model = int(config.vocab_size), int(config.hidden_size)
    file, key = _find_table(
        place, folder / _INDEX, architecture, tied=bool(config.tie_word_embeddings)
    )
    rows = _read_rows(file, key, ids, d_model=d_model, vocabulary=vocabulary).to(dtype)
    if not architecture.scales_embedding:
        return rows
    return rows * torch.tensor(d_model**0.5).to(rows.dtype)


def _find_table(
    place: ModelPlace, index: Path, architecture: Architecture, *, tied: bool
) -> tuple[Path, str]:
    """The file that holds the embedding table, and its name there; a tied table may stand under the
    LM head's name.
    """
    if not index.is_file():
        file = place.file(_FILE)
        if file is None:
            raise CheckpointError("no weights", where=place, expected=f"{_FILE} or {_INDEX}")
        with _opened(file) as opened:
            files = dict.fromkeys(opened.keys(), _FILE)
    else:
        files = json_object(index)["weight_map"]
    names = {_text_name(key, architecture): key for key in files}
    backbone = "model" if architecture.text_keys else architecture.backbone
    wanted = [f"{backbone}.{architecture.embedding}.weight", f"{architecture.embedding}.weight"]
    wanted += ["lm_head.weight"] if tied else []
    key = next((names[name] for name in wanted if name in names), None)
    found = place.file(files[key]) if key is not None else None
    if key is None or found is None:
        raise CheckpointError(
            "no embedding table",
            where=place,
            expected=wanted[0],
            found=f"{len(files)} other weights",
        )
    return found, key


def _text_name(key: str, architecture: Architecture) -> str:
    """A weight's name in the text model; for a wrapper, the first pattern that fits renames it."""
    for pattern, replacement in architecture.text_keys:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key


def _read_rows(
    file: Path, key: str, ids: Sequence[int], *, d_model: int, vocabulary: int
) -> Tensor:
    with _opened(file) as opened:
        table = opened.get_slice(key)
        shape = table.get_shape()
        if len(shape) != 2 or shape[1] != d_model or shape[0] < vocabulary or shape[0] <= max(ids):
            raise CheckpointError(
                f"wrong embedding table {key}",
                where=file,
                expected=f"[{vocabulary}, {d_model}]",
                found=shape,
            )
        rows = {row: table[row : row + 1] for row in set(ids)}
    found = torch.cat([rows[row] for row in ids])
    if not found.is_floating_point() or found.dtype.itemsize < 2:
        raise CheckpointError(
            f"wrong embedding table {key}",
            where=file,
            expected="16 or 32 bit floats",
            found=found.dtype,
        )
    if not bool(torch.isfinite(found).all()):
        raise CheckpointError(f"embedding table {key} holds NaN or infinity", where=file)
    return found


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(str(file), framework="pt")
    except UNREADABLE as error:
        raise CheckpointError(
            f"the weights cannot be read ({first_line(error)})", where=file
        ) from error
