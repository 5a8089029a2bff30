"""Tensors of a model's safetensors files: their names, shapes and types from the headers, their
values one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gloss.contract import VALUE_HEAD_NAME
from gloss.errors import CheckpointError
from gloss.target_model import UNREADABLE, ModelPlace


@dataclass(frozen=True)
class TensorHeader:
    """What a safetensors header says of one tensor; ``dtype`` is the format's own name, such as
    BF16.
    """

    file: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def tensor_headers(place: ModelPlace, files: Mapping[str, int]) -> dict[str, TensorHeader]:
    """Headers of every tensor of the model, without its head and without reading or fetching any
    weight.

    ``files`` are those of ``place.files()``. A name that several files hold counts once.
    Raises: CheckpointError for a file whose header cannot be read.
    """
    names = [
        name
        for name in files
        if "/" not in name and name.endswith(".safetensors") and name != VALUE_HEAD_NAME
    ]
    headers: dict[str, TensorHeader] = {}
    for name in names:
        headers.update(file_headers(place, name))
    return headers


def file_headers(place: ModelPlace, name: str) -> dict[str, TensorHeader]:
    """Headers of the tensors in one safetensors file.

    Raises: CheckpointError if it cannot be read.
    """
    from huggingface_hub.constants import is_offline_mode

    try:
        if place.is_local or is_offline_mode():
            return _local_headers(place.folder_unchecked() / name)
        from huggingface_hub import HfApi

        inside = f"{place.subfolder}/{name}" if place.subfolder else name
        found = HfApi().parse_safetensors_file_metadata(place.name, inside, revision=place.revision)
        return {
            key: TensorHeader(name, info.dtype, tuple(info.shape))
            for key, info in found.tensors.items()
        }
    except UNREADABLE as error:
        raise unreadable(place, name, error) from error


def _local_headers(file: Path) -> dict[str, TensorHeader]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
        return {
            n: TensorHeader(file.name, s.get_dtype(), tuple(s.get_shape()))
            for n, s in slices.items()
        }


def stream_tensors(folder: Path, file: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one safetensors file, one in memory at a time.

    Raises: CheckpointError if it cannot be read.
    """
    from safetensors import safe_open

    try:
        with safe_open(folder / file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                yield name, opened.get_tensor(name)
    except UNREADABLE as error:
        raise unreadable(folder, file, error) from error


def unreadable(place: object, file: str, error: Exception) -> CheckpointError:
    """What a damaged or missing safetensors file raises."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return CheckpointError(
        f"{file} cannot be read ({reason})",
        where=place,
        remedy="Fetch or write the file again: its header is damaged",
    )
