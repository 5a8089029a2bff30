"""Rows of a model's embedding table; the rest of its weights is neither fetched nor read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from gloss.errors import CheckpointError
from gloss.target_model.architectures import Architecture, architecture_of, text_name
from gloss.target_model.folder_files import json_object, readable
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
    """What the model's embedding module gives for token ids; [len(ids), d_model].

    ``dtype`` None is that of the file. Of a model on the hub only the file that holds the rows is
    fetched."""
    folder = place.folder(with_weights=False, with_code=trust_remote_code)
    config = read_config(folder, trust_remote_code)
    architecture = architecture_of(config.model_type, config=config)
    if architecture.text_keys:
        config = text_config(config)
    vocabulary, d_model = int(config.vocab_size), int(config.hidden_size)
    tied = bool(config.tie_word_embeddings)
    file, key = _find_table(place, folder / _INDEX, architecture, tied=tied)
    rows = _read_rows(file, key, ids, d_model=d_model, vocabulary=vocabulary).to(dtype)
    if not architecture.scales_embedding:
        return rows
    return rows * torch.tensor(d_model**0.5).to(rows.dtype)


def _find_table(
    place: ModelPlace, index: Path, architecture: Architecture, *, tied: bool
) -> tuple[Path, str]:
    """The embedding table's file and name there, which for a tied table may be the LM head's."""
    if index.is_file():
        files = json_object(index)["weight_map"]
    elif (file := place.file(_FILE)) is None:
        raise CheckpointError("no weights", where=place, expected=f"{_FILE} or {_INDEX}")
    else:
        with _opened(file) as opened:
            files = dict.fromkeys(opened.keys(), _FILE)
    of_wrapper = bool(architecture.text_keys)
    names = {text_name(key) if of_wrapper else key: key for key in files}
    backbone = "model" if architecture.text_keys else architecture.backbone
    wanted = [f"{backbone}.{architecture.embedding}.weight", f"{architecture.embedding}.weight"]
    wanted += ["lm_head.weight"] if tied else []
    key = next((names[name] for name in wanted if name in names), None)
    found = place.file(files[key]) if key is not None else None
    if key is None or found is None:
        others = f"{len(files)} other weights"
        raise CheckpointError("no embedding table", where=place, expected=wanted[0], found=others)
    return found, key


def _read_rows(
    file: Path, key: str, ids: Sequence[int], *, d_model: int, vocabulary: int
) -> Tensor:
    def wrong(expected: str, found: object) -> CheckpointError:
        what = f"wrong embedding table {key}"
        return CheckpointError(what, where=file, expected=expected, found=found)

    with _opened(file) as opened:
        table = opened.get_slice(key)
        shape = table.get_shape()
        if len(shape) != 2 or shape[1] != d_model or shape[0] < vocabulary or shape[0] <= max(ids):
            raise wrong(f"[{vocabulary}, {d_model}]", shape)
        rows = {row: table[row : row + 1] for row in set(ids)}
    found = torch.cat([rows[row] for row in ids])
    if not found.is_floating_point() or found.dtype.itemsize < 2:
        raise wrong("16 or 32 bit floats", found.dtype)
    if not bool(torch.isfinite(found).all()):
        raise CheckpointError(f"embedding table {key} holds NaN or infinity", where=file)
    return found


def _opened(file: Path) -> safe_open:
    with readable("the weights cannot be read", file):
        return safe_open(str(file), framework="pt")
