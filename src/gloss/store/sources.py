"""Activations to be explained, from files or memory: read a chunk at a time, each with what is
known of its rows.

.parquet (a file or a folder of shards)   datasets of Gloss and the reference
.npy, .safetensors                        one array [n, d_model]
tensors and arrays in memory              the same
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gloss.errors import ActivationError, DatasetError, cause
from gloss.store.activations import (
    VECTOR_COLUMN,
    iter_activations,
    raw_vectors,
    read_schema,
    shard_files,
)

if TYPE_CHECKING:
    from torch import Tensor

DIFFERENCE = "difference"
CONTEXT_CHARS = 160
_COLUMNS = ("doc_id", "position", "token", "token_id")
_CONTEXT_COLUMN, _LAYER_COLUMN = "detokenized_text_truncated", "activation_layer"
_SAMPLES, _SAMPLE_BYTES = 64, 4096


@dataclass(frozen=True)
class VectorRows:
    """Some rows of a source: number of the first, raw activations [n, d_model] float32, and known
    columns of the result.
    """

    first: int
    vectors: Tensor
    columns: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class VectorSource(ABC):
    """Activations that can be read in chunks; ``layer`` is known to some sources only, ``identity``
    tells this input from another, cheaply: sizes and sampled bytes.
    """

    num_rows: int
    d_model: int
    identity: list[str]
    layer: int | None = None

    @abstractmethod
    def chunks(self, size: int) -> Iterator[VectorRows]:
        """All rows in order, ``size`` at a time but for the last."""


@dataclass(frozen=True, kw_only=True)
class ArraySource(VectorSource):
    """An array [n, d_model] of which ``read`` gives any slice, with the columns that are known."""

    read: Callable[[int, int], Tensor]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """See ``VectorSource``."""
        for first in range(0, self.num_rows, size):
            last = min(first + size, self.num_rows)
            columns = {name: values[first:last] for name, values in self.columns.items()}
            yield VectorRows(first, self.read(first, last).float(), columns)


@dataclass(frozen=True, kw_only=True)
class ParquetSource(VectorSource):
    """A dataset of activations: one file, or a folder of shards."""

    path: Path
    names: tuple[str, ...]

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """See ``VectorSource``."""
        first, pending = 0, None
        for table in iter_activations(self.path, columns=self.names, batch_rows=size):
            pending = table if pending is None else pa.concat_tables([pending, table])
            while len(pending) >= size:
                yield self._rows(first, pending.slice(0, size))
                first, pending = first + size, pending.slice(size)
        if pending is not None and len(pending):
            yield self._rows(first, pending)

    def _rows(self, first: int, table: pa.Table) -> VectorRows:
        import torch

        vectors = torch.from_numpy(raw_vectors(table, where=self.path).copy())
        columns: dict[str, Sequence[Any]] = {
            name: table[name].to_pylist() for name in _COLUMNS if name in table.schema.names
        }
        columns["context"] = [text[-CONTEXT_CHARS:] for text in table[_CONTEXT_COLUMN].to_pylist()]
        if "position" not in columns:
            columns["position"] = [count - 1 for count in table["n_raw_tokens"].to_pylist()]
        layers = set(table[_LAYER_COLUMN].to_pylist())
        if layers != {self.layer}:
            raise DatasetError(
                "activations of several layers",
                where=self.path,
                found=sorted({*layers, self.layer}),
            )
        return VectorRows(first, vectors, columns)


@dataclass(frozen=True, kw_only=True)
class DifferenceSource(VectorSource):
    """Row by row the activations of one source minus those of another, or minus its only row."""

    minuend: VectorSource
    subtrahend: VectorSource

    @classmethod
    def of(cls, minuend: VectorSource, subtrahend: VectorSource) -> DifferenceSource:
        """The difference of two sources. Raises: ActivationError if they do not fit."""
        layers = [one.layer for one in (minuend, subtrahend) if one.layer is not None]
        if subtrahend.num_rows not in (1, minuend.num_rows):
            raise ActivationError(
                "the files of a difference have different numbers of rows",
                expected=f"{minuend.num_rows}, or 1",
                found=subtrahend.num_rows,
            )
        if subtrahend.d_model != minuend.d_model:
            raise ActivationError(
                "the vectors of a difference have different widths",
                expected=minuend.d_model,
                found=subtrahend.d_model,
            )
        if len(set(layers)) > 1:
            raise ActivationError(
                "a difference between layers", expected=layers[0], found=layers[1]
            )
        return cls(
            num_rows=minuend.num_rows,
            d_model=minuend.d_model,
            identity=[*minuend.identity, "minus", *subtrahend.identity],
            layer=layers[0] if layers else None,
            minuend=minuend,
            subtrahend=subtrahend,
        )

    def chunks(self, size: int) -> Iterator[VectorRows]:
        """See ``VectorSource``."""
        if self.subtrahend.num_rows == 1:
            others = repeat(next(self.subtrahend.chunks(1)).vectors)
        else:
            others = (rows.vectors for rows in self.subtrahend.chunks(size))  # type: ignore[assignment]
        for rows, other in zip(
            self.minuend.chunks(size), others, strict=self.subtrahend.num_rows != 1
        ):
            known = rows.columns.get("flags", [[]] * len(rows.vectors))
            columns = {**rows.columns, "flags": [[*flags, DIFFERENCE] for flags in known]}
            yield replace(rows, vectors=rows.vectors - other, columns=columns)


def open_source(source: VectorSource | Path | str | Tensor | np.ndarray[Any, Any]) -> VectorSource:
    """Opens a file or an array; only what a chunk needs is read, when it is needed.

    Raises: DatasetError for a file that is missing or of another kind; ActivationError if it is not
    [n, d_model]."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.suffix == ".npy":
            return _from_npy(path)
        if path.suffix == ".safetensors":
            return _from_safetensors(path)
        return _from_parquet(path)
    if isinstance(source, VectorSource):
        return source
    import torch

    return memory_source(torch.as_tensor(source))


def memory_source(
    vectors: Tensor, columns: Mapping[str, Sequence[Any]] | None = None, *, layer: int | None = None
) -> ArraySource:
    """Activations [n, d_model] or [d_model] in memory, with columns of the result.

    Raises: ActivationError for other shapes or numbers.
    """
    rows = vectors.detach().cpu()
    rows = rows.unsqueeze(0) if rows.ndim == 1 else rows
    _check_array(rows.shape, rows.is_floating_point(), str(rows.dtype), where=None)
    digest = hashlib.blake2b(rows.contiguous().float().numpy().tobytes(), digest_size=8).hexdigest()
    return ArraySource(
        read=lambda first, last: rows[first:last],
        num_rows=len(rows),
        d_model=rows.shape[1],
        identity=[f"memory {digest}"],
        columns=columns or {},
        layer=layer,
    )


def file_fingerprint(path: Path) -> str:
    """Size of a file and sixteen hexadecimal digits from its beginning, its end and places
    between.
    """
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as stream:
        for i in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return f"{size} bytes {digest.hexdigest()}"


def _from_parquet(path: Path) -> ParquetSource:
    import pyarrow.parquet as pq

    if path.is_file() and path.suffix != ".parquet":
        raise DatasetError(
            "unknown kind of activations",
            where=path,
            expected=".parquet, .npy or .safetensors",
            found=path.suffix,
        )
    schema, files = read_schema(path), shard_files(path)
    names = [VECTOR_COLUMN, "n_raw_tokens", _CONTEXT_COLUMN, _LAYER_COLUMN]
    names += [name for name in _COLUMNS if name in schema.names]
    first = next(iter_activations(path, columns=[_LAYER_COLUMN], batch_rows=1), None)
    return ParquetSource(
        path=path,
        num_rows=sum(pq.read_metadata(file).num_rows for file in files),
        d_model=schema.field(VECTOR_COLUMN).type.list_size,
        layer=None if first is None else first[_LAYER_COLUMN][0].as_py(),
        identity=[file_fingerprint(file) for file in files],
        names=tuple(names),
    )


def _from_npy(path: Path) -> ArraySource:
    try:
        array = np.lib.format.open_memmap(_existing(path), mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"not a .npy file of numbers ({cause(error)})", where=path) from error
    _check_array(array.shape, array.dtype.kind == "f", str(array.dtype), where=path)

    def read(first: int, last: int) -> Tensor:
        import torch

        return torch.from_numpy(np.array(array[first:last], dtype=np.float32))

    return _of_file(path, array.shape, read)


def _from_safetensors(path: Path) -> ArraySource:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_existing(path), "np") as tensors:
            names = list(tensors.keys())
            (name,) = names if len(names) == 1 else [n for n in names if n == "activations"] or [""]
            found = tensors.get_slice(name) if name else None
            shape = () if found is None else tuple(found.get_shape())
            dtype = "" if found is None else str(found.get_dtype())
    except (SafetensorError, OSError) as error:
        raise DatasetError(f"not a safetensors file ({cause(error)})", where=path) from error
    if not name:
        raise DatasetError(
            "which tensor holds the activations?",
            where=path,
            expected="one tensor, or 'activations'",
            found=names,
        )
    _check_array(shape, dtype.startswith(("F", "BF")), dtype, where=path)

    def read(first: int, last: int) -> Tensor:
        with safe_open(path, "pt") as tensors:
            rows: Tensor = tensors.get_slice(name)[first:last]
            return rows

    return _of_file(path, shape, read)


def _of_file(path: Path, shape: Sequence[int], read: Callable[[int, int], Tensor]) -> ArraySource:
    identity = [file_fingerprint(path)]
    return ArraySource(read=read, num_rows=shape[0], d_model=shape[1], identity=identity)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DatasetError("no such file of activations", where=path)
    return path


def _check_array(shape: Sequence[int], floating: bool, dtype: str, *, where: object) -> None:
    if len(shape) != 2 or 0 in shape:
        remedy = "Put batch and positions on one axis: array.reshape(-1, d_model)"
        raise ActivationError(
            "wrong shape of activations",
            where=where,
            expected="[n, d_model]",
            found=list(shape),
            remedy=remedy if len(shape) > 2 else None,
        )
    if not floating:
        raise ActivationError(
            "activations that are no floats", where=where, expected="a float type", found=dtype
        )
